"""JSON bodies with holes: plain values in which each text may hold some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extproc.expressions.templates import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from extproc.expressions.conditions import Context


@dataclass(frozen=True, slots=True)
class Body:
    """A value in which texts are templates.

    Attributes:
        tree: maps and lists of templates and plain scalars.
    """

    tree: Any

    @property
    def names(self) -> tuple[str, ...]:
        """Return which names the holes read."""
        return tuple(dict.fromkeys(name for t in _templates(self.tree) for name in t.names))

    def filled(self, context: Context, *, but: frozenset[str] = frozenset()) -> Any:
        """Fill in; see `Template.value`.

        Args:
            context: what holes read.
            but: texts with holes that read nothing but these are null.

        Raises:
            NoValue: a hole among text has none.
        """
        return _filled(self.tree, context, but)


def body(source: Any, compiled: Callable[[str, tuple[str | int, ...]], Template]) -> Body:
    """Make a body of plain values.

    Args:
        source: as written in the gateway file.
        compiled: makes a template of a text and its place.
    """
    return Body(_compiled(source, compiled, ()))


def _compiled(
    source: Any,
    compiled: Callable[[str, tuple[str | int, ...]], Template],
    place: tuple[str | int, ...],
) -> Any:
    if isinstance(source, str):
        made = compiled(source, place)
        return made if made.names or "{" in source or "}" in source else source
    if isinstance(source, dict):
        return {name: _compiled(value, compiled, (*place, name)) for name, value in source.items()}
    if isinstance(source, list):
        return [_compiled(v, compiled, (*place, number)) for number, v in enumerate(source)]
    return source


def _templates(tree: Any) -> Iterator[Template]:
    if isinstance(tree, Template):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _templates(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _templates(value)


def _filled(tree: Any, context: Context, but: frozenset[str]) -> Any:
    if isinstance(tree, Template):
        of_these = bool(but) and bool(tree.names) and but.issuperset(tree.names)
        return None if of_these else tree.value(context)
    if isinstance(tree, dict):
        return {name: _filled(value, context, but) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, context, but) for value in tree]
    return tree
