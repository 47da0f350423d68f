"""YAML, read strictly and with positions: plain data, and where each key and value stands."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.resolver import Resolver

from extproc.config.errors import ConfigError, Position, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Key = tuple[str | int, ...]

LARGEST = 1 << 20
_DEEPEST = 40
_TOO_DEEP = ("nests too deep", f"expected at most {_DEEPEST} levels")
_MOST_NODES = 200_000
_MOST_CHARACTERS = 4 * LARGEST
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_FILLED = re.compile(r"\$\$\{|\$\{([A-Za-z_]\w*):([^}]*)(\}?)")
_VARIABLE = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_BOM = "\ufeff"
_LITERALS = {"true": True, "false": False, "null": None, "~": None, "": None}
_FLOAT_LIMIT = 300
_RESOLVER = Resolver()
_SHOWN = 60


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
        found = path.stat()
        # A pipe would be waited for without end, and by whoever loads for others.
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise _refusal(name, "is no regular file", "expected one that can be read twice")
        if found.st_size > LARGEST:
            raise _refusal(name, f"is larger than {LARGEST >> 20} MiB", "split it with include")
        data = path.read_bytes()
    except OSError as error:
        raise _refusal(name, f"can't be read: {error.strerror or error}") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _refusal(
            _place(name, data, error.start), "isn't UTF-8", "save it as UTF-8"
        ) from error


def _refusal(at: Position | str, problem: str, expected: str = "") -> ConfigError:
    place = Position(at) if isinstance(at, str) else at
    return ConfigError([Trouble(place, "", problem, expected)])


def _place(name: str, data: bytes, offset: int) -> Position:
    """Return where a byte stands; the text before it is UTF-8."""
    start = data.rfind(b"\n", 0, offset) + 1
    column = len(data[start:offset].decode()) + 1
    return Position(name, data.count(b"\n", 0, offset) + 1, column)


def compose(text: str, name: str, fill: Callable[[str, str], str]) -> Document:
    """Read YAML text; see `read`."""
    if text.startswith(_BOM):
        raise _refusal(name, "starts with a byte order mark", "save it as UTF-8 without one")
    node = _root(text, name)
    if node is None:
        raise _refusal(name, "is empty", "expected a mapping")
    reader = _Reader(name, fill)
    data = reader.value(node, ())
    if reader.troubles:
        raise ConfigError(reader.troubles)
    reader.document.data = data
    return reader.document


def _root(text: str, name: str) -> yaml.Node | None:
    try:
        _bounded(text, name)
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(name, mark.line + 1, mark.column + 1) if mark else Position(name)
        problem = (error.problem or "no reason known").strip()
        if "nesting depth" in problem:  # the scanner's own bound, which it may meet before ours
            raise _refusal(at, *_TOO_DEEP) from error
        if "cannot start any token" in problem and mark and _at(text, mark) == "\t":
            raise _refusal(at, "has a tab where blanks must be", "indent with blanks") from error
        if "did not find expected ','" in problem and mark and _at(text, mark) == "{":
            raise _refusal(at, "has a brace in a text without quotes", "quote the text") from error
        raise _refusal(at, f"isn't YAML: {problem}") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position].encode(errors="replace")
        at = _place(name, before, len(before))
        raise _refusal(at, "holds a control character", "take it out") from error
    except (yaml.YAMLError, ValueError) as error:
        raise _refusal(name, f"isn't YAML: {str(error).splitlines()[0]}") from error


def _at(text: str, mark: yaml.Mark) -> str:
    """Return the character at a mark; a line's end is a line feed."""
    line = text.splitlines()[mark.line : mark.line + 1]
    return (line[0][mark.column : mark.column + 1] if line else "") or "\n"


def _bounded(text: str, name: str) -> None:
    """Refuse deep nesting before anything recurses: the composer, in C, would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            mark = event.start_mark
            at = Position(name, mark.line + 1, mark.column + 1) if mark else Position(name)
            raise _refusal(at, *_TOO_DEEP)


class _Reader:
    """Makes plain data of nodes and collects what is wrong."""

    def __init__(self, name: str, fill: Callable[[str, str], str]) -> None:
        self._name = name
        self._fill = fill
        self._nodes = 0
        self._characters = 0
        self.document = Document(None)
        self.troubles: list[Trouble] = []

    def value(self, node: yaml.Node, key: Key) -> Any:
        """Make a value; positions are recorded on the way."""
        at = self._at(node)
        self.document.values[key] = at
        self._count(node, key)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            self._no_tag(node, "tag:yaml.org,2002:seq", key)
            return [self.value(item, (*key, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        raise AssertionError(node)  # YAML has no fourth kind

    def _count(self, node: yaml.Node, key: Key) -> None:
        """Bound what aliases write out: nodes, text and depth."""
        self._nodes += 1
        if isinstance(node, yaml.ScalarNode):
            self._characters += len(node.value)
        grown = self._nodes > _MOST_NODES or self._characters > _MOST_CHARACTERS
        if grown or len(key) > _DEEPEST:
            raise ConfigError(
                [Trouble(self._at(node), written_key(key), "nests too deep or is too large")]
            )

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        self._no_tag(node, "tag:yaml.org,2002:map", key)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = self._key(key_node, key)
            if name is None:
                continue
            if name in result:
                first = self.document.keys[(*key, name)]
                self._trouble(key_node, (*key, name), f"is there twice, first at line {first.line}")
                continue
            self.document.keys[(*key, name)] = self._at(key_node)
            result[name] = self.value(value_node, (*key, name))
        return result

    def _key(self, node: yaml.Node, key: Key) -> str | None:
        """Return a mapping's key if it is text."""
        if not isinstance(node, yaml.ScalarNode):
            self._trouble(node, key, "has a key that isn't plain text", "expected a name")
        elif node.tag == "tag:yaml.org,2002:merge":
            self._trouble(node, key, "merges by <<", "write the keys out")
        elif not _is_quoted(node) and not isinstance(plain(node.value), str):
            self._trouble(node, key, f"has the key {node.value}", "expected text: quote it")
        elif not _has_own_tag(node):
            self._trouble(node, key, f"has a key with the tag {node.tag}", "expected a name")
        else:
            return str(node.value)
        return None

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> Any:
        if not _has_own_tag(node):
            self._trouble(node, key, f"has the tag {node.tag}", "expected a plain value")
            return None
        try:
            text = _FILLED.sub(self._replace, node.value)
        except ValueError as error:
            self._trouble(node, key, str(error))
            return None
        self._characters += len(text) - len(node.value)
        found = _FILLED.search(node.value)
        whole = found is None or _FILLED.fullmatch(node.value) is not None
        return plain(text) if whole and not _is_quoted(node) else text

    def _replace(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if not match[3]:
            raise ValueError(f"begins {match[0][:40]} without its }}, write $${{ for a plain ${{")
        return self._fill(match[1], match[2])

    def _no_tag(self, node: yaml.Node, usual: str, key: Key) -> None:
        if node.tag != usual:
            self._trouble(node, key, f"has the tag {node.tag}", "expected a plain value")

    def _trouble(self, node: yaml.Node, key: Key, problem: str, expected: str = "") -> None:
        self.troubles.append(Trouble(self._at(node), written_key(key), problem, expected))

    def _at(self, node: yaml.Node) -> Position:
        mark = node.start_mark
        return Position(self._name, mark.line + 1, mark.column + 1)


def _is_quoted(node: yaml.ScalarNode) -> bool:
    return node.style in {"'", '"', "|", ">"}


def _has_own_tag(node: yaml.ScalarNode) -> bool:
    """Say whether a tag is what the text has without one."""
    implicit = (False, True) if _is_quoted(node) else (True, False)
    usual = _RESOLVER.resolve(yaml.ScalarNode, node.value, implicit)  # type: ignore[no-untyped-call]
    return bool(node.tag == usual)


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


def filler(
    folder: Path, environment: Mapping[str, str], used: list[Path] | None = None
) -> Callable[[str, str], str]:
    """Return what fills in `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}`.

    Args:
        folder: files stand below it.
        environment: where names are looked up.
        used: files that were read are added here.

    Returns:
        A function of kind and argument; it raises ValueError saying what is missing.
    """
    files = used if used is not None else []

    def fill(kind: str, argument: str) -> str:
        if kind == "env":
            return _variable(environment, argument)
        if kind == "file":
            path = below(folder, argument)
            files.append(written_path(folder, argument))
            return _content(path, argument)
        raise ValueError(f"fills in ${{{kind}:…}}, expected ${{env:NAME}} or ${{file:PATH}}")

    return fill


def _variable(environment: Mapping[str, str], argument: str) -> str:
    name, has_default, default = argument.partition(":-")
    if not _VARIABLE.match(name):
        raise ValueError(f"names {name!r}, which can't be an environment variable")
    if name not in environment and not has_default:
        raise ValueError(f"needs the environment variable {name}, which isn't set")
    value = environment.get(name, default)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"needs the environment variable {name}, which isn't UTF-8") from error
    return value


def _content(path: Path, name: str) -> str:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError(f"names {name}, which is no file of at most {LARGEST >> 20} MiB")
        return path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"names {name}, which can't be read") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"names {name}, which isn't UTF-8") from error


def followed(path: Path) -> Path:
    """Follow links; a ring of them, which `Path.resolve` raises on, is told when it is read."""
    return Path(os.path.realpath(path))


def below(folder: Path, relative: str) -> Path:
    """Return a file below the gateway file's folder, links resolved.

    Raises:
        ValueError: it isn't there, or lies elsewhere.
    """
    if relative.startswith("/"):
        raise ValueError(f"names {_shortened(relative)}, expected a path relative to the file")
    try:
        path = (folder / relative).resolve()
        there = path.exists()
        known = not there or path.is_file() or path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a ring of links, a NUL
        raise ValueError(f"names {_shortened(relative)}, which can't be a path") from error
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"names {relative}, which isn't below the gateway file's folder")
    if not there:
        raise ValueError(f"names {relative}, which doesn't exist below {folder}")
    if not known:  # a pipe, for example, would be waited for without end
        raise ValueError(f"names {relative}, which is no regular file")
    return path


def written_path(folder: Path, relative: str) -> Path:
    """Return a file as the gateway file names it: a link stays one, so that a copy has it too.

    Raises:
        ValueError: it isn't there, or lies elsewhere.
    """
    path = below(folder, relative)
    written = Path(os.path.normpath(folder.resolve() / relative))
    return written if written.resolve() == path else path


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
