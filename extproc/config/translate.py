"""Validation errors in plain words, with the position of what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from extproc.config.errors import Position, Trouble
from extproc.config.source import Key, written_key
from extproc.config.units import shown
from extproc.core.near import near

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
_OF_A_KEY = "[key]"  # how a location ends if the name itself is wrong


class Positions:
    """Where keys and values stand, by key."""

    def __init__(
        self,
        keys: Mapping[Key, Position],
        values: Mapping[Key, Position],
        file: str,
        prefix: Key = (),
    ) -> None:
        self._keys = keys
        self._values = values
        self._file = file
        self._prefix = prefix

    def below(self, prefix: Key) -> Positions:
        """Return the positions of one part of the file, by keys within it."""
        size = len(prefix)
        keys, values = (
            {key[size:]: at for key, at in known.items() if key[:size] == prefix}
            for known in (self._keys, self._values)
        )
        return Positions(keys, values or {(): self.of_value(prefix)}, self._file, prefix)

    def named(self, key: Key) -> str:
        """Write a key as the whole file sees it; one text in place of a list is its item."""
        if key and isinstance(key[-1], int) and self._values and key not in self._values:
            key = key[:-1]
        return written_key((*self._prefix, *key))

    def of_value(self, key: Key) -> Position:
        """Return where a value stands, or the nearest thing around it."""
        while key and key not in self._values:
            key = self._otherwise_written(key) or key[:-1]
        return self._values.get(key, Position(self._file))

    def of_key(self, key: Key) -> Position:
        """Return where a key stands, or its value."""
        return self._keys.get(key) or self.of_value(key)

    def _otherwise_written(self, key: Key) -> Key | None:
        """Find a header that the file writes with capitals."""
        name = key[-1]
        if not isinstance(name, str):
            return None
        size = len(key)
        same = (
            known
            for known in self._values
            if len(known) == size
            and known[:-1] == key[:-1]
            and isinstance(known[-1], str)
            and known[-1].lower() == name
        )
        return next(same, None)


def translated(
    error: ValidationError,
    model: type[BaseModel],
    data: Any,
    positions: Positions,
    incomplete: Container[Key] = (),
) -> list[Trouble]:
    """Return a trouble for each error, each place once.

    Args:
        error: what the model said.
        model: the model.
        data: what it was given.
        positions: where everything stands.
        incomplete: parts of which nothing missing is told.
    """
    troubles: dict[Key, Trouble] = {}
    for detail in error.errors(include_url=False):
        key = _real_key(detail["loc"], data)
        told = key in incomplete or (detail["type"] == "missing" and key[:-1] in incomplete)
        if key not in troubles and not told:
            troubles[key] = _trouble(detail, key, model, positions, data)
    return list(troubles.values())


def _real_key(location: Iterable[str | int], data: Any) -> Key:
    """Leave out the parts of a location that aren't in the file (names of unions' members)."""
    key: list[str | int] = []
    parts = [part for part in location if part != _OF_A_KEY]
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if isinstance(data, dict) and (part in data or last):
            key.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            key.append(part)
            data = data[part]
    return tuple(key)


def _trouble(
    detail: ErrorDetails, key: Key, model: type[BaseModel], positions: Positions, data: Any
) -> Trouble:
    kind = detail["type"]
    if kind == "extra_forbidden":
        meant = near(str(key[-1]), sorted(known_keys(model, key[:-1])))
        return Trouble(positions.of_key(key), positions.named(key), "unknown key", meant)
    if kind == "missing":
        return Trouble(positions.of_value(key[:-1]), positions.named(key), "is missing")
    of_a_key = detail["loc"][-1:] == (_OF_A_KEY,)
    at = positions.of_key(key) if of_a_key else positions.of_value(key)
    name = positions.named(key)
    if kind == "value_error":
        problem, _, expected = str(detail["ctx"]["error"]).partition(", expected ")
        return Trouble(at, name, problem, f"expected {expected}" if expected else "")
    if kind in _BOUNDS:
        value, expected = _bounded(detail, key, data)
        return Trouble(at, name, f"is {shown(value)}", f"expected {expected}")
    problem = f"is {shown(detail['input'])}"
    return Trouble(at, name, problem, f"expected {_expected(detail)}")


def _bounded(detail: ErrorDetails, key: Key, data: Any) -> tuple[Any, str]:
    """Return a value as it is written, and its bound; that of a duration is in seconds."""
    value = data
    for part in key:
        value = value[part]
    words, name = _BOUNDS[detail["type"]]
    unit = "s" if isinstance(value, str) else ""
    return value, f"{words} {detail['ctx'][name]:g}{unit}"


def _expected(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    simple = {
        "literal_error": "{expected}",
        "string_unicode": "text in UTF-8",
        "string_pattern_mismatch": "text that matches {pattern}",
        "too_short": "at least one",
        "string_too_short": "at least {min_length} characters",
    }
    if kind in simple:
        return simple[kind].format_map(context)
    return detail["msg"].lower()


def known_keys(model: type[BaseModel], key: Key) -> list[str]:
    """Return the keys that the model at this place has."""
    current: Any = model
    for part in key:
        current = _inner(current, part)
        if current is None:
            return []
    found = _model(current)
    if found is None:
        return []
    return [field.alias or name for name, field in found.model_fields.items()]


def _inner(annotation: Any, part: str | int) -> Any:
    model = _model(annotation)
    if model is not None and isinstance(part, str):
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                return field.annotation
        return None
    arguments = get_args(annotation)
    return next((argument for argument in reversed(arguments) if _has_model(argument)), None)


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    # An optional model stands for the model; a list or mapping of models doesn't.
    if getattr(annotation, "__origin__", None) in {list, dict}:
        return None
    found = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
    return found[0] if found else None


def _has_model(annotation: Any) -> bool:
    return _model(annotation) is not None or any(map(_has_model, get_args(annotation)))
