"""Listens on addresses of this host, keeps the connections, and ends them gracefully."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from extproc.adapters import unix_sockets
from extproc.adapters.http2.limits import Limits
from extproc.adapters.local.health import Health
from extproc.adapters.local.methods import methods
from extproc.adapters.local.peer import Peer
from extproc.adapters.local.polling import BusyPoll
from extproc.core.errors import ConfigFault, where

if TYPE_CHECKING:
    from extproc.adapters.service import Deciding
    from extproc.core.waiting import Waiting

MOST_CONNECTIONS = 1000
_TICK = 1.0
_LAST_CALL_WITHIN = 0.5
_BACKLOG = 512


class LocalServer:
    """Serves ext_proc, ext_authz, access logs and grpc.health.v1 to Envoys on this host.

    Args:
        deciding: what answers.
        limits: of each connection.
        most_connections: further ones are turned away.
        busy_poll: seconds, see `BusyPoll`; 0 to sleep between exchanges.
    """

    def __init__(
        self,
        deciding: Deciding,
        limits: Limits | None = None,
        most_connections: int = MOST_CONNECTIONS,
        busy_poll: float = 0.0,
    ) -> None:
        self._deciding = deciding
        self._limits = limits or Limits()
        self._most_connections = most_connections
        self._busy_poll = busy_poll
        self._busy: BusyPoll | None = None
        self._health = Health()
        self._methods = methods(deciding, self._health)
        self._sockets: list[socket.socket] = []
        self._paths: list[Path] = []
        self._servers: list[asyncio.Server] = []
        self._peers: set[Peer] = set()
        self._finishing: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    def listen(self, address: str) -> str:
        """Bind `unix:/path` or `host:port` of this host.

        Returns:
            The address as bound, with the port that was chosen for port 0.

        Raises:
            ConfigFault: the address is another host's, or everybody's.
            OSError: it can't be bound.
        """
        check_address(address)
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            self._sockets.append(unix_sockets.bound(path))
            self._paths.append(path)
            return address
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(bound, (_literal(host), int(port)))
        self._sockets.append(bound)
        return f"{host}:{bound.getsockname()[1]}"

    async def start(self) -> None:
        """Serve, and say so to health checks."""
        loop = asyncio.get_running_loop()
        if self._busy_poll:
            self._busy = BusyPoll(loop, self._deciding.clock.monotonic, self._busy_poll)
        for bound in self._sockets:
            bound.setblocking(False)  # noqa: FBT003 - the library's
            bound.listen(_BACKLOG)
            if bound.family == socket.AF_UNIX:
                server = await loop.create_unix_server(self._peer, sock=bound, backlog=_BACKLOG)
            else:
                server = await loop.create_server(self._peer, sock=bound, backlog=_BACKLOG)
            self._servers.append(server)
        self._health.set(serving=True)
        self._ticking = loop.call_later(_TICK, self._tick)

    def _peer(self) -> Peer:
        return Peer(
            self._methods,
            self._limits,
            self._deciding.log,
            self._deciding.clock.monotonic,
            self._finish_later,
            self._made,
            self._forget,
            self._busy,
        )

    def _made(self, peer: Peer) -> None:
        """Keep a peer from when it can be written to: asyncio makes it turns of the loop before."""
        if len(self._peers) >= self._most_connections:
            peer.refuse()
        self._peers.add(peer)

    def _forget(self, peer: Peer) -> None:
        self._peers.discard(peer)
        if not self._peers:
            self._emptied.set()

    def _finish_later(self, rest: Waiting) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(rest)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def _tick(self) -> None:
        # First, since every limit of time of every connection hangs on it.
        self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)
        for peer in list(self._peers):
            try:
                peer.tick()
            except Exception as error:  # noqa: BLE001 - one connection's defect isn't the others'
                log = self._deciding.log
                log.error("connection dropped", error=type(error).__name__, where=where(error))
                peer.abort()

    async def stop(self, grace: float) -> None:
        """Tell health checks and peers, let calls end for up to `grace` seconds, close."""
        self._health.set(serving=False)
        for server in self._servers:
            server.close()
        for path in self._paths:
            path.unlink(missing_ok=True)
        for peer in list(self._peers):
            peer.announce_end()
        try:
            async with asyncio.timeout(grace):
                await self._until_empty(min(_LAST_CALL_WITHIN, grace / 2))
        except TimeoutError:
            for peer in list(self._peers):
                peer.abort()
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=grace)
        if self._ticking is not None:
            self._ticking.cancel()

    async def _until_empty(self, last_call: float) -> None:
        self._emptied.clear()
        if self._peers:
            try:
                async with asyncio.timeout(last_call):
                    await self._emptied.wait()
            except TimeoutError:
                for peer in list(self._peers):
                    peer.stop_accepting()
        if self._peers:
            await self._emptied.wait()


def check_address(address: str) -> None:
    """Refuse an address that other hosts reach.

    Raises:
        ConfigFault: it is none of this host's own.
    """
    if address.startswith("unix:"):
        return
    host = address.rpartition(":")[0]
    try:
        own = ipaddress.ip_address(_literal(host)).is_loopback
    except ValueError:
        own = False
    if not own:
        raise ConfigFault(
            f"{address}: the local server has no TLS and serves this host alone; "
            "listen on unix:/path or a loopback address, or use --server grpcio "
            "(with --tls-cert and --tls-key)"
        )


def _literal(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host.strip("[]")


def _bind(bound: socket.socket, address: str | tuple[str, int]) -> None:
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
