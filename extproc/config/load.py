"""Reading a gateway file with everything it includes: one validated model, or every trouble."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from extproc.config import checks, not_built
from extproc.config.errors import ConfigError, Position, Trouble
from extproc.config.schema import Gateway, PolicyFile
from extproc.config.source import Document, Key, filler, followed, read, written_key, written_path
from extproc.config.translate import Positions, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

_INCLUDABLE = ("routes", "policies", "upstreams")
_VERSION_DIGITS = 16


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Loaded:
    """A gateway file that can be used.

    Attributes:
        path: the file as it was named; a link stays one.
        gateway: the model, merged.
        positions: where each key and value stands.
        folder: paths are relative to it.
        files: everything that was read; a change of any of them is a new version.
        globs: what else would be read if it were there, relative to the folder.
        version: of the content, 16 hexadecimal digits; the same content has the same version.
    """

    path: Path
    gateway: Gateway
    positions: Positions
    folder: Path
    files: tuple[Path, ...]
    globs: tuple[str, ...]
    version: str

    def trouble(self, key: Key, problem: str, expected: str = "") -> Trouble:
        """Make a trouble at a key's value."""
        return Trouble(self.positions.of_value(key), written_key(key), problem, expected)


def load(path: Path, environment: Mapping[str, str]) -> Loaded:
    """Read and validate a gateway file.

    Args:
        path: the file.
        environment: for `${env:NAME}`.

    Raises:
        ConfigError: with every trouble that was found.
    """
    merge = _Merge(path, environment)
    merge.everything()
    return _validated(merge)


def json_schema() -> dict[str, Any]:
    """Return the gateway file's JSON Schema (draft 2020-12), for editors."""
    schema = Gateway.model_json_schema(by_alias=True)
    # `policies` may also name a folder, which is replaced before validation.
    policies = schema["properties"]["policies"]
    schema["properties"]["policies"] = {
        "anyOf": [{"type": "string"}, {k: v for k, v in policies.items() if k != "description"}],
        "description": policies["description"],
    }
    _let_fill(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def _let_fill(schema: Any) -> None:
    """Let every text that has a pattern be filled in, as in `${env:NAME}`; names of keys aren't."""
    if isinstance(schema, list):
        for part in schema:
            _let_fill(part)
    elif isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            schema["pattern"] = rf"(?:{schema['pattern']})|\$\{{(?:env|file):"
        for name, part in schema.items():
            if name != "propertyNames":
                _let_fill(part)


class _Merge:
    """Puts files together; remembers where everything came from."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self.files: list[Path] = [followed(path)]
        self.folder = self.files[0].parent
        self.fill: Callable[[str, str], str] = filler(self.folder, environment, self.files)
        # Through the link once: it may be put elsewhere between this line and the last.
        self.main = read(self.files[0], str(path), self.fill)
        if not isinstance(self.main.data, dict):
            raise ConfigError([Trouble(Position(str(path)), "", "is no mapping", "expected keys")])
        self.data: dict[str, Any] = self.main.data
        self.keys = dict(self.main.keys)
        self.values = dict(self.main.values)
        self.troubles: list[Trouble] = []
        self.globs: list[str] = []

    @property
    def positions(self) -> Positions:
        """Return where everything stands."""
        return Positions(self.keys, self.values, str(self.path))

    def everything(self) -> None:
        """Merge the policy folder and the includes."""
        if isinstance(self.data.get("policies"), str):
            self._policy_folder(self.data.pop("policies"))
        for file in dict.fromkeys(self._included()):
            self._collected(self._include, file)
        if self.troubles:
            raise ConfigError(self.troubles)

    def _collected(self, add: Callable[[Path], None], file: Path) -> None:
        """Go on with the next file if this one can't be used."""
        if not followed(file).is_relative_to(self.folder):
            at = Position(self._name(file))
            self.troubles.append(Trouble(at, "", "isn't below the gateway file's folder"))
            return
        try:
            add(file)
        except ConfigError as error:
            self.troubles += error.troubles

    def _included(self) -> Iterator[Path]:
        globs = self.data.get("include", [])
        if not isinstance(globs, str | list):
            return  # the schema says what is wrong with it
        for place, pattern in enumerate([globs] if isinstance(globs, str) else globs):
            key: Key = ("include",) if isinstance(globs, str) else ("include", place)
            if not isinstance(pattern, str):
                continue  # the schema says what is wrong with it
            if pattern.startswith("/") or ".." in pattern.split("/"):
                self._trouble(key, "leaves the folder", "expected a glob below this file")
                continue
            yield from self._matched(pattern, key)

    def _matched(self, pattern: str, key: Key) -> Iterator[Path]:
        try:
            found = sorted(self.folder.glob(pattern))
        except (ValueError, OSError, NotImplementedError):
            self._trouble(key, "is no glob", "expected a glob such as teams/*.yaml")
            return
        self.globs.append(pattern)
        if not found:
            self._trouble(key, "matches no file")
        yield from (file for file in found if followed(file) != self.files[0])

    def _include(self, file: Path) -> None:
        document = self._read(file)
        if not isinstance(document.data, dict):
            self.troubles.append(Trouble(Position(self._name(file)), "", "is no mapping"))
            return
        for name, value in document.data.items():
            if name not in _INCLUDABLE:
                at = document.keys[(name,)]
                expected = f"expected {', '.join(_INCLUDABLE)} in an included file"
                self.troubles.append(Trouble(at, name, "can't be included", expected))
            elif name == "routes" and isinstance(value, list):
                self._add_routes(document, value)
            elif isinstance(value, dict):
                self._add_named(document, name, value)
            else:
                at = document.values[(name,)]
                self.troubles.append(Trouble(at, name, "is neither a list nor a mapping"))

    def _add_routes(self, document: Document, routes: list[Any]) -> None:
        present = self.data.setdefault("routes", [])
        if not isinstance(present, list):
            return  # the schema says what is wrong with it
        start = len(present)
        present.extend(routes)
        self._move(document, ("routes",), start)

    def _add_named(self, document: Document, kind: str, items: dict[str, Any]) -> None:
        present = self.data.setdefault(kind, {})
        if not isinstance(present, dict):
            return  # the schema says what is wrong with it
        added: set[str] = set()
        for name, value in items.items():
            key: Key = (kind, name)
            if name in present:
                first = self.positions.of_key(key)
                problem = f"is there twice, first at {first.file}:{first.line}"
                self.troubles.append(Trouble(document.keys[key], written_key(key), problem))
                continue
            present[name] = value
            added.add(name)
        self._move(document, (kind,), only=added)

    def _move(
        self, document: Document, parent: Key, by: int = 0, only: Container[str] | None = None
    ) -> None:
        """Take over positions below a list, moved, or of some keys of a mapping."""
        size = len(parent)
        for source, target in ((document.keys, self.keys), (document.values, self.values)):
            for key, position in source.items():
                if len(key) <= size or key[:size] != parent:
                    continue
                name = key[size]
                if isinstance(name, int):
                    target[(*parent, name + by, *key[size + 1 :])] = position
                elif only is not None and name in only:
                    target[key] = position

    def _policy_folder(self, relative: str) -> None:
        try:
            folder = written_path(self.folder, relative)
        except ValueError as error:
            self._trouble(("policies",), str(error))
            return
        if not folder.is_dir():
            self._trouble(("policies",), f"names {relative!r}", "expected a folder below this file")
            return
        self.data["policies"] = {}
        self.globs.append(f"{folder.relative_to(self.folder)}/**/*.yaml")
        for file in sorted(folder.rglob("*.yaml")):
            if not file.name.endswith("_test.yaml") and not _kept(file.relative_to(folder)):
                self._collected(self._policy_file, file)

    def _policy_file(self, file: Path) -> None:
        document = self._read(file)
        keys = Positions(document.keys, document.values, self._name(file))
        if isinstance(document.data, dict):
            not_yet = [k for k in not_built.found(document.data) if k[0] == "policies"]
            if not_yet:
                self.troubles += [_refused(keys, key) for key in not_yet]
                return
        try:
            PolicyFile.model_validate(document.data)
        except ValidationError as error:
            self.troubles += translated(error, PolicyFile, document.data, keys)
            return
        self._add_named(document, "policies", document.data["policies"])

    def _read(self, file: Path) -> Document:
        self.files.append(file)
        return read(file, self._name(file), self.fill)

    def _name(self, file: Path) -> str:
        """Return how errors call a file: beside the main file's own spelling."""
        return str(self.path.parent / file.relative_to(self.folder))

    def _trouble(self, key: Key, problem: str, expected: str = "") -> None:
        at = self.positions.of_value(key)
        self.troubles.append(Trouble(at, written_key(key), problem, expected))


def _kept(file: Path) -> bool:
    """Say whether a file is in a folder like `..data`: what a mounted ConfigMap's names lead to.

    It is there a second time by its name, and once more while the next version is put in place.
    """
    return any(part.startswith("..") for part in file.parts)


def _refused(positions: Positions, key: Key) -> Trouble:
    return Trouble(
        positions.of_key(key), written_key(key), "isn't built yet in this version", "take it out"
    )


def _validated(merge: _Merge) -> Loaded:
    positions = merge.positions
    not_yet = list(not_built.found(merge.data))
    if not_yet:
        raise ConfigError(_beside(not_yet, merge, positions))
    try:
        gateway = _model(merge)
    except ValidationError as error:
        raise ConfigError(translated(error, Gateway, merge.data, positions)) from error
    used, troubles = checks.check(gateway, merge.folder)
    if troubles:
        raise ConfigError(
            Trouble(positions.of_value(key), positions.named(key), problem, expected)
            for key, problem, expected in troubles
        )
    files = tuple(dict.fromkeys((*merge.files, *used)))
    version = _version(merge.data, files, merge.folder)
    return Loaded(merge.path, gateway, positions, merge.folder, files, tuple(merge.globs), version)


def _model(merge: _Merge) -> Gateway:
    context = {"folder": str(merge.folder), "files": merge.files}
    return Gateway.model_validate(merge.data, context=context)


def _beside(not_yet: list[Key], merge: _Merge, positions: Positions) -> list[Trouble]:
    """Return what isn't built yet, and what is wrong elsewhere with the rest."""
    refused = [_refused(positions, key) for key in not_yet]
    for key in not_yet:
        not_built.without(merge.data, key)
    try:
        _model(merge)
    except ValidationError as error:
        # What holds something refused may well be incomplete without it.
        holders = {key[:-1] for key in not_yet}
        found = translated(error, Gateway, merge.data, positions, holders)
        return sorted([*refused, *found], key=lambda trouble: trouble.at)
    return refused


def _version(data: Any, files: tuple[Path, ...], folder: Path) -> str:
    digest = hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode())
    for file in files[1:]:
        digest.update(str(file.relative_to(folder)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:_VERSION_DIGITS]
