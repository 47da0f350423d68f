"""What every part of the schema is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from extproc.config.source import below, written_path
from extproc.config.units import shown
from extproc.core.addresses import host_of, is_address

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.\-]+):([0-9]{1,5})\Z")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_PATH = r"^/"
# `get` isn't GET (RFC 9110 section 9.1), though some upstreams think so.
METHOD = "[A-Z][A-Z-]{0,31}"
_METHOD = re.compile(METHOD + r"\Z")
MOST_PORTS = 65_535
_LONGEST_SOCKET = 107


def is_method(text: str) -> bool:
    """Say whether a text is written as methods are, in capitals."""
    return _METHOD.match(text) is not None


class Strict(BaseModel):
    """A part of the file: unknown keys and other kinds of values are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _address(value: str) -> str:
    found = _ADDRESS.match(value)
    if found is None or int(found[1]) > MOST_PORTS:
        raise ValueError(f"is {shown(value)}, expected host:port such as 127.0.0.1:8080")
    return value


def _ip_address(value: str) -> str:
    if not is_address(host_of(_address(value))):
        expected = "an IP address and a port such as 127.0.0.1:8080 or [::1]:8080"
        raise ValueError(f"is {shown(value)}, expected {expected}")
    return value


def _address_or_socket(value: str) -> str:
    if not value.startswith("unix:"):
        return _address(value)
    path = value.removeprefix("unix:")
    if not path.startswith("/") or len(path.encode()) > _LONGEST_SOCKET:
        raise ValueError(
            f"is {shown(value)}, expected unix:/path of at most {_LONGEST_SOCKET} bytes"
        )
    return value


def _file(value: Any, info: ValidationInfo) -> str:
    """Resolve a file below the gateway file's folder, and note that it is used."""
    if not isinstance(value, str):
        raise ValueError(f"is {shown(value)}, expected a path")  # noqa: TRY004 - pydantic wants ValueError
    context = info.context or {}
    folder = context.get("folder")
    if folder is None:
        return value
    path = below(Path(folder), value)
    if not path.is_file():
        raise ValueError(f"names {value}, which is no file")
    context["files"].append(written_path(Path(folder), value))
    return str(path)


def _no_folder(value: str, info: ValidationInfo) -> str:
    """Refuse a folder in the place of a file that is written to; there may be nothing yet."""
    folder = (info.context or {}).get("folder")
    if folder is not None and Path(folder, value).is_dir():
        raise ValueError(f"names {value}, which is a folder, expected a file")
    return value


def worded(pattern: str, words: str) -> BeforeValidator:
    """Say in words what a text should be, before its pattern is told as an expression.

    Args:
        pattern: for the text.
        words: what it stands for, after `expected`.
    """
    compiled = re.compile(pattern.removesuffix("$") + r"\Z" * pattern.endswith("$"))

    def check(value: Any) -> Any:
        if isinstance(value, str) and not compiled.match(value):
            raise ValueError(f"is {shown(value)}, expected {words}")
        return value

    return BeforeValidator(check)


def _different(value: Any) -> Any:
    """Refuse header names that differ by capitals alone: one would be lost without a word."""
    if isinstance(value, dict):
        seen: dict[str, str] = {}
        for name in value:
            if name.lower() in seen:
                raise ValueError(f"names {seen[name.lower()]} and {name}, expected one of them")
            seen[name.lower()] = name
    return value


def _header_name(value: str) -> str:
    if not _HEADER.match(value) or value.startswith(":"):
        raise ValueError(f"is {shown(value)}, expected a header name")
    return value.lower()


def as_list(value: Any) -> Any:
    """Let one name stand for a list of one."""
    return [value] if isinstance(value, str) else value


IpAddress = Annotated[str, AfterValidator(_ip_address)]
AddressOrSocket = Annotated[str, AfterValidator(_address_or_socket)]
File = Annotated[str, BeforeValidator(_file)]
WrittenFile = Annotated[str, Field(min_length=1), AfterValidator(_no_folder)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HEADERS = BeforeValidator(_different)
UrlPath = Annotated[str, Field(pattern=_PATH), worded(_PATH, "a path that begins with /")]
Name = Annotated[
    str, Field(pattern=_NAME), worded(_NAME, "a name of letters, digits, `_`, `.` and `-`")
]
ONE_OR_MORE = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
)
Names = Annotated[list[str], BeforeValidator(as_list), ONE_OR_MORE]
