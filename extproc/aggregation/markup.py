"""XML as plain values, read without entities, DTDs or anything outside the document.

An element without attributes and children is its text (null where it is empty); else it is a map:
its attributes under `@name`, its children by name, its text under `#text` if there is some. Names
are without their namespace's prefix; of attributes that then have one name, that without a prefix
counts, or else the first. Children of the same name are a list, one child isn't. The
document is a map of its root's name to the root.
"""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat

_LONGEST_DECLARATION = 200
_DECLARED = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,30})["']""")
_OF_SEVERAL_BYTES = frozenset(
    {
        *(b"shift-jis", b"euc-jp", b"iso-2022-jp", b"cp932"),
        *(b"gb2312", b"gbk", b"gb18030", b"big5", b"big5-hkscs", b"euc-kr", b"cp949"),
    }
)
_DEEPEST = 64
_NAMESPACES = "xmlns"
_MOST = 100_000  # elements and attributes; a namespace's declaration is one
_SHORTEST = len(' a=""')  # of an attribute
_LONG_PIECE = re.compile(rb"<[^<]{%d,}" % (_MOST * _SHORTEST))


class NotConvertible(ValueError):
    """The bytes aren't XML, or hold what isn't read: a DTD, too many elements, too deep."""


def converted(document: bytes) -> dict[str, Any]:
    """Convert a document.

    Raises:
        NotConvertible: it isn't one that is read.
    """
    encoding, document = _decoded(document)
    _refuse_rich(document)
    reader = _Reader()
    # Without `expat`'s namespaces: it would put all of a namespace before each name that is in it.
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(document, True)  # noqa: FBT003 - expat takes it by place
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise NotConvertible(str(error)) from error
    return reader.root


def _decoded(document: bytes) -> tuple[str | None, bytes]:
    """Return a document that `expat` can read, and its encoding where that isn't what it says.

    `expat` reads no encoding with several bytes for a character, besides UTF-8 and UTF-16.

    Raises:
        NotConvertible: it isn't in the encoding that it declares.
    """
    declared = _DECLARED.match(document[:_LONGEST_DECLARATION])
    if declared is None or declared[1].lower().replace(b"_", b"-") not in _OF_SEVERAL_BYTES:
        return None, document
    try:
        return "utf-8", document.decode(declared[1].decode()).encode()
    except (ValueError, LookupError) as error:
        raise NotConvertible(str(error)) from error


def _refuse_rich(document: bytes) -> None:
    """Refuse a tag that may have too many attributes: all are gathered before one is counted.

    A tag holds no `<`, so it lies in one piece between two of them.

    Raises:
        NotConvertible: there is one.
    """
    if any(piece[0].count(b"=") > _MOST for piece in _LONG_PIECE.finditer(document)):
        raise NotConvertible("an element has too many attributes")


class _Reader:
    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, Any], list[str]]] = []
        self._seen = 0

    def refuse(self, *_declaration: object) -> None:
        raise NotConvertible("it declares a document type")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._seen += 1 + len(attributes)
        if self._seen > _MOST or len(self._open) >= _DEEPEST:
            raise NotConvertible("it is too large or too deep")
        value: dict[str, Any] = {}
        for key, text in attributes.items():
            prefix, colon, local = key.rpartition(":")
            if _NAMESPACES in {key, prefix}:
                continue
            if not colon or f"@{local}" not in value:
                value[f"@{local}"] = text
        self._open.append((_local(name), value, []))

    def text(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)

    def end(self, _name: str) -> None:
        name, value, pieces = self._open.pop()
        text = "".join(pieces).strip()
        if text and value:
            value["#text"] = text
        self._add(name, value or text or None)

    def _add(self, name: str, value: Any) -> None:
        parent = self._open[-1][1] if self._open else self.root
        if name not in parent:
            parent[name] = value
        elif isinstance(parent[name], list):  # of children: one of them is never a list itself
            parent[name].append(value)
        else:
            parent[name] = [parent[name], value]


def _local(name: str) -> str:
    return name.rpartition(":")[2]
