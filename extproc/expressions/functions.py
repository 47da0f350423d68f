"""The functions of an expression over JSON: JMESPath's, and one of its community's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jmespath import functions

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Functions(functions.Functions):  # type: ignore[misc]  # the library has no types
    """JMESPath's, and one of its community's (JEP 14)."""

    @functions.signature({"types": ["string"]}, {"types": ["string"]})  # type: ignore[untyped-decorator]
    def _func_split(self, text: str, separator: str) -> list[str]:
        """Cut a text: `?ids=1,2` has a list in one value."""
        if not separator:
            return list(text)
        return text.split(separator) if text else []


FUNCTIONS = _Functions()
TABLE: Mapping[str, object] = _Functions.FUNCTION_TABLE
