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
    ValidationInfo,
    WithJsonSchema,
)

from extproc.config.source import below, written_path
from extproc.config.units import shown

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.\-]+):(\d{1,5})\Z")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_MOST_PORTS = 65_535
_LONGEST_SOCKET = 107


class Strict(BaseModel):
    """A part of the file: unknown keys and other kinds of values are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _address(value: str) -> str:
    found = _ADDRESS.match(value)
    if found is None or int(found[1]) > _MOST_PORTS:
        raise ValueError(f"is {shown(value)}, expected host:port such as 127.0.0.1:8080")
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


def _header_name(value: str) -> str:
    if not _HEADER.match(value) or value.startswith(":"):
        raise ValueError(f"is {shown(value)}, expected a header name")
    return value.lower()


def as_list(value: Any) -> Any:
    """Let one name stand for a list of one."""
    return [value] if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_address)]
AddressOrSocket = Annotated[str, AfterValidator(_address_or_socket)]
File = Annotated[str, BeforeValidator(_file)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
ONE_OR_MORE = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
)
Names = Annotated[list[str], BeforeValidator(as_list), ONE_OR_MORE]
