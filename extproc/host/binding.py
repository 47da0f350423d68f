"""Whether what a gateway file names can be bound or written, before anything is started."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from extproc.adapters import unix_sockets
from extproc.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.config.errors import Trouble
    from extproc.config.load import Loaded
    from extproc.config.source import Key


def refuse_what_is_taken(loaded: Loaded, *, listens: bool = True) -> None:
    """Bind each address for a moment.

    Envoy binds with SO_REUSEPORT, so a second gateway on a port would share it in silence. And
    one that is found out late has the token of the first one's admin interface replaced.

    Args:
        loaded: the gateway file.
        listens: its public listener is bound too, not only the admin interface.

    Raises:
        ConfigError: some can't be bound; with file:line of each.
    """
    troubles = list(_troubles(loaded, listens=listens))
    if troubles:
        raise ConfigError(troubles)


def _troubles(loaded: Loaded, *, listens: bool) -> Iterator[Trouble]:
    gateway = loaded.gateway
    places: list[tuple[Key, str | None]] = [
        (("listener", "address"), gateway.listener.address),
        (("listener", "redirect"), gateway.listener.redirect),
        (("admin", "address"), gateway.admin.address),
    ]
    for key, address in places:
        if address is None or not (listens or key[0] == "admin"):
            continue
        why = why_not(address)
        if why:
            yield loaded.trouble(key, f"{address} can't be bound: {why}", "expected a free address")


@contextmanager
def writing(loaded: Loaded, *key: str) -> Iterator[None]:
    """Say of a file that can't be written which key names it.

    Args:
        loaded: the gateway file.
        key: of the file that is opened in the block.

    Raises:
        ConfigError: it can't be; with file:line.
    """
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        problem = f"{reduce(getattr, key, loaded.gateway)} can't be written: {why}"
        raise ConfigError([loaded.trouble(key, problem)]) from error


def why_not(address: str) -> str:
    """Bind an address for a moment; return why it can't be bound, empty where it can."""
    host, _, port = address.rpartition(":")
    try:
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            unix_sockets.bound(path).close()
            path.unlink()
            return ""
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        with closing(socket.socket(family, kind, protocol)) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(where)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
