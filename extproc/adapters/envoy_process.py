"""The Envoy process: its files, and what its admin interface says."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASK_AGAIN = 0.01


class NotTaken(RuntimeError):
    """Envoy didn't take a new configuration in time, or refused it."""


def replace(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file by atomic rename: Envoy notices nothing else."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(orjson.dumps(content))
    Path(file.name).rename(path)


class EnvoyAdmin:
    """Envoy's admin interface on a Unix socket."""

    def __init__(self, socket_path: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=socket_path, force_close=True),
            timeout=aiohttp.ClientTimeout(total=2),
        )

    async def close(self) -> None:
        """Close connections."""
        await self._session.close()

    async def ready(self) -> bool:
        """Say whether Envoy serves."""
        try:
            async with self._session.get("http://envoy/ready") as response:
                return response.status == 200  # noqa: PLR2004 - OK
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def tell(self, path: str) -> None:
        """POST to the admin interface; an Envoy that is gone needs no telling."""
        try:
            async with self._session.post(f"http://envoy{path}"):
                return
        except (aiohttp.ClientError, OSError, TimeoutError):
            return

    async def stats(self, pattern: str) -> dict[str, Any]:
        """Return statistics whose name matches; empty if Envoy can't say."""
        try:
            async with self._session.get(
                "http://envoy/stats", params={"format": "json", "filter": pattern}
            ) as response:
                document = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
            return {}
        entries = document.get("stats", [])
        return {entry["name"]: entry["value"] for entry in entries if "name" in entry}

    async def clusters(self) -> list[dict[str, Any]]:
        """Return the state of each cluster; empty if Envoy can't say."""
        try:
            async with self._session.get(
                "http://envoy/clusters", params={"format": "json"}
            ) as response:
                document = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
            return []
        return list(document.get("cluster_statuses", []))

    async def rejected(self, prefix: str) -> int:
        """Return how many updates of a subscription were refused; see `taken`."""
        name = f"{prefix}.update_rejected"
        return int((await self.stats(f"^{name.replace('.', '[.]')}$")).get(name, 0))

    async def taken(self, prefix: str, version: str, rejected: int, seconds: float) -> None:
        """Wait until a subscription has this version.

        Args:
            prefix: of its statistics, for example `cluster_manager.cds`.
            version: `version_info` of the file.
            rejected: how many updates were refused before the file was written.
            seconds: how long to wait.

        Raises:
            NotTaken: it was refused, or nothing happened in time.
        """
        pattern = f"^{prefix.replace('.', '[.]')}[.](version_text|update_rejected)$"
        try:
            async with asyncio.timeout(seconds):
                while True:
                    stats = await self.stats(pattern)
                    if stats.get(f"{prefix}.version_text") == version:
                        return
                    if stats.get(f"{prefix}.update_rejected", 0) > rejected:
                        raise NotTaken(f"Envoy refused {prefix} {version}")
                    await asyncio.sleep(_ASK_AGAIN)
        except TimeoutError as error:
            raise NotTaken(f"Envoy didn't take {prefix} {version} in {seconds} s") from error
