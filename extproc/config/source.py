"""YAML, read strictly and with positions: plain data, and where each key and value stands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from extproc.config.errors import ConfigError, Position, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Key = tuple[str | int, ...]

LARGEST = 4 << 20
_DEEPEST = 40
_MOST_NODES = 200_000
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_FILLED = re.compile(r"\$?\$\{([a-z]+):([^}]*)\}")
_LITERALS = {"true": True, "false": False, "null": None, "~": None, "": None}
_FLOAT_LIMIT = 300


@dataclass(slots=True)
class Document:
    """What a file says.

    Attributes:
        data: plain values.
        keys: where each key stands.
        values: where each value stands.
    """

    data: Any
    keys: dict[Key, Position] = field(default_factory=dict)
    values: dict[Key, Position] = field(default_factory=dict)


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """Only composes; values are made here."""


def read(path: Path, name: str, fill: Callable[[str, str], str]) -> Document:
    """Read one file.

    Args:
        path: the file.
        name: what errors call it.
        fill: gives the value of `${kind:argument}`; raises ValueError saying what is missing.

    Raises:
        ConfigError: it can't be read, isn't strict YAML, or a value can't be filled in.
    """
    return compose(_text(path, name), name, fill)


def _text(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError([Trouble(Position(name), "", f"is larger than {LARGEST >> 20} MiB")])
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            [Trouble(Position(name), "", f"can't be read: {error.strerror or error}")]
        ) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [Trouble(Position(name, line), "", "isn't UTF-8", "save it as UTF-8")]
        ) from error


def compose(text: str, name: str, fill: Callable[[str, str], str]) -> Document:
    """Read YAML text; see `read`."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(name, mark.line + 1, mark.column + 1) if mark else Position(name)
        problem = (error.problem or "isn't YAML").strip()
        raise ConfigError([Trouble(at, "", f"isn't YAML: {problem}")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = str(error).splitlines()[0]
        raise ConfigError([Trouble(Position(name), "", f"isn't YAML: {problem}")]) from error
    if node is None:
        raise ConfigError([Trouble(Position(name), "", "is empty", "expected a mapping")])
    reader = _Reader(name, fill)
    data = reader.value(node, ())
    if reader.troubles:
        raise ConfigError(reader.troubles)
    reader.document.data = data
    return reader.document


class _Reader:
    """Makes plain data of nodes and collects what is wrong."""

    def __init__(self, name: str, fill: Callable[[str, str], str]) -> None:
        self._name = name
        self._fill = fill
        self._nodes = 0
        self.document = Document(None)
        self.troubles: list[Trouble] = []

    def value(self, node: yaml.Node, key: Key) -> Any:
        """Make a value; positions are recorded on the way."""
        at = self._at(node)
        self.document.values[key] = at
        self._nodes += 1
        if len(key) > _DEEPEST or self._nodes > _MOST_NODES:
            # Every alias is written out, so a file that grows by aliases ends here.
            raise ConfigError([Trouble(at, written_key(key), "nests too deep or is too large")])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            self._no_tag(node, "tag:yaml.org,2002:seq", key)
            return [self.value(item, (*key, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        raise AssertionError(node)  # YAML has no fourth kind

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        self._no_tag(node, "tag:yaml.org,2002:map", key)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if name is None or key_node.tag == "tag:yaml.org,2002:merge":
                self._trouble(key_node, key, "has a key that isn't plain text", "expected a name")
                continue
            if name in result:
                first = self.document.keys[(*key, name)]
                self._trouble(key_node, (*key, name), f"is there twice, first at line {first.line}")
                continue
            self.document.keys[(*key, name)] = self._at(key_node)
            result[name] = self.value(value_node, (*key, name))
        return result

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> Any:
        quoted = node.style in {"'", '"', "|", ">"}
        if node.tag not in {
            "tag:yaml.org,2002:str",
            "tag:yaml.org,2002:int",
            "tag:yaml.org,2002:float",
            "tag:yaml.org,2002:bool",
            "tag:yaml.org,2002:null",
            "tag:yaml.org,2002:timestamp",
            "tag:yaml.org,2002:value",
        }:
            self._trouble(node, key, f"has the tag {node.tag}", "expected a plain value")
            return None
        try:
            text = _FILLED.sub(self._replace, node.value)
        except ValueError as error:
            self._trouble(node, key, str(error))
            return None
        return text if quoted else plain(text)

    def _replace(self, match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return self._fill(match[1], match[2])

    def _no_tag(self, node: yaml.Node, usual: str, key: Key) -> None:
        if node.tag != usual:
            self._trouble(node, key, f"has the tag {node.tag}", "expected a plain value")

    def _trouble(self, node: yaml.Node, key: Key, problem: str, expected: str = "") -> None:
        self.troubles.append(Trouble(self._at(node), written_key(key), problem, expected))

    def _at(self, node: yaml.Node) -> Position:
        mark = node.start_mark
        return Position(self._name, mark.line + 1, mark.column + 1)


def plain(text: str) -> Any:
    """Read an unquoted scalar as YAML 1.2's core schema does: no dates, no `no` for false."""
    if text in _LITERALS:
        return _LITERALS[text]
    if _INTEGER.match(text) and len(text) <= 18:  # noqa: PLR2004 - fits 64 bits
        return int(text)
    if _FLOAT.match(text) and len(text) < _FLOAT_LIMIT:
        number = float(text)
        return number if abs(number) < 1e300 else text  # noqa: PLR2004 - far below infinity
    return text


def written_key(key: Key) -> str:
    """Write a key as `routes[2].cache.ttl`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def filler(folder: Path, environment: Mapping[str, str]) -> Callable[[str, str], str]:
    """Return what fills in `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}`.

    The returned function raises ValueError saying what is missing.
    """

    def fill(kind: str, argument: str) -> str:
        if kind == "env":
            name, has_default, default = argument.partition(":-")
            if name not in environment and not has_default:
                raise ValueError(f"needs the environment variable {name}, which isn't set")
            return environment.get(name, default)
        if kind == "file":
            try:
                return below(folder, argument).read_text(encoding="utf-8").removesuffix("\n")
            except OSError as error:
                raise ValueError(f"names {argument}, which can't be read") from error
        raise ValueError(f"fills in ${{{kind}:…}}, expected ${{env:NAME}} or ${{file:PATH}}")

    return fill


def below(folder: Path, relative: str) -> Path:
    """Return a file below the gateway file's folder, links resolved.

    Raises:
        ValueError: it isn't there, or lies elsewhere.
    """
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"names {relative}, which isn't below the gateway file's folder")
    if not path.exists():
        raise ValueError(f"names {relative}, which doesn't exist below {folder}")
    return path
