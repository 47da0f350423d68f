"""Where stored things are: an address that may hold a password, so no error shows any of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo

_PATTERN = r"^(?:memory|(?:rediss?://|unix://)\S+)$"
_EXPECTED = "expected memory, or redis://host:6379/0"
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_ANYWHERE = ("db", "username", "password", "client_name")
_OF_TLS = (*_FILES, "ssl_password", "ssl_check_hostname", "ssl_cert_reqs")


def _store(value: Any, info: ValidationInfo) -> Any:
    """Refuse what the library would read as something else, or fail by at each connection."""
    if not isinstance(value, str) or value == "memory":
        return value
    if not re.match(_PATTERN, value):
        raise ValueError(f"is no URL of Redis, {_EXPECTED}")
    if "#" in value:
        raise ValueError(f"holds `#`, {_EXPECTED}; in a password it is %23")
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"has no port that is a number, {_EXPECTED}")
    _placed(url)
    _parameters(url, info.context or {})
    return value


def _placed(url: SplitResult) -> None:
    """Refuse an address that names no place, or no database that is a number."""
    database = url.path.removeprefix("/")
    if url.scheme == "unix":
        if not database:
            raise ValueError("names no socket, expected unix:///path?db=0")
        return
    if not url.hostname:
        raise ValueError(f"names no host, {_EXPECTED}; in a password / is %2F and ? is %3F")
    if database and not _is_number(database):
        raise ValueError(f"names a database that is no number, {_EXPECTED}")


def _parameters(url: SplitResult, context: dict[str, Any]) -> None:
    known = (*_ANYWHERE, *(_OF_TLS if url.scheme == "rediss" else ()))
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"has a parameter that isn't known, expected {', '.join(known)}")
        if name == "db" and not _is_number(value):
            raise ValueError(f"has `db` that is no number, {_EXPECTED}")
        # Where a part is validated alone, as for the reference, there are no files.
        if name in _FILES and "folder" in context and not _is_whole_path(value):
            raise ValueError(f"has `{name}` that names no file, expected its whole path")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_whole_path(text: str) -> bool:
    return text.startswith("/") and Path(text).is_file()


StoreUrl = Annotated[str, Field(pattern=_PATTERN, repr=False), BeforeValidator(_store)]
