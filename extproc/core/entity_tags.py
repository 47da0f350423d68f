"""Entity tags (RFC 9110 section 8.8.3), as lists in preconditions and with a mark of ours."""

from __future__ import annotations

import re

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_TAGS = re.compile(
    rf"(?:[ \t]*,)*[ \t]*{_TAG.pattern}(?:[ \t]*,(?:[ \t]*{_TAG.pattern})?)*[ \t]*\Z"
)


def tags_of(value: str) -> list[str]:
    """Return the entity tags of a list; what is no list of them is one that is compared as text."""
    return _TAG.findall(value) if _TAGS.match(value) else [value.strip()]


def marked(tag: str, mark: str) -> str:
    """Return a tag that says in which of several forms its content is; as strong as it was.

    Args:
        tag: of an upstream; what is no entity tag stays as it is.
        mark: of the form, characters that may stand in a tag.
    """
    return f'{tag[:-1]}~{mark}"' if _TAG.fullmatch(tag) else tag


def unmarked(tag: str, mark: str) -> str | None:
    """Return a tag as it was before `marked`; None where it has another mark, or none."""
    end = f'~{mark}"'
    return f'{tag.removesuffix(end)}"' if _TAG.fullmatch(tag) and tag.endswith(end) else None
