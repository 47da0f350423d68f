"""Storing what passes a cached route, and updating what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.caching import making, storing, validating
from extproc.caching.keys import KeyOf
from extproc.caching.named import texts
from extproc.caching.policy import Policy
from extproc.caching.responses import Responses
from extproc.core.headers import Headers
from extproc.core.ports import Clock
from extproc.expressions.conditions import Context
from extproc.expressions.templates import Template

if TYPE_CHECKING:
    from extproc.caching.entry import Entry
    from extproc.caching.passage import Passage
    from extproc.core.values import Request, Response

_NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class Keeper:
    """Stores one route's responses.

    Attributes:
        responses: what is stored.
        clock: tells the time.
        key: what makes a difference to a response.
        policy: the route's own rules.
        tags: by which responses can be purged.
        forwards: the upstream gets a client's Authorization.
    """

    responses: Responses
    clock: Clock
    key: KeyOf
    policy: Policy
    tags: tuple[Template, ...]
    forwards: bool

    def store(self, request: Request, passage: Passage, response: Response) -> bool:
        """Store a response whose body is there; say whether it could be."""
        pieces, passage.pieces = passage.pieces or [], None
        entry = self._made(request, passage, response, b"".join(pieces))
        if entry is None:
            return False
        self.responses.keep(passage.key, entry)
        self.responses.came(passage.key, passage.headers, entry)
        return True

    def kept(self, passage: Passage, response: Response, now: float) -> storing.Kept:
        """Decide whether a response is stored, and how."""
        if response.reason:
            return storing.Kept("error")
        if response.code_details not in {"", "via_upstream"}:
            return storing.Kept("local-reply")
        if passage.by_body and response.status == storing.PARTIAL:
            return storing.Kept("status")
        length = response.headers.get("content-length") or "0"
        if length.isdigit() and int(length) > self.policy.largest:
            return storing.Kept("too-large")
        asked = self._asked(passage, passage.method)
        return storing.kept(asked, response.status, response.headers, self.policy, now)

    def fits(self, response: Response) -> bool:
        """Say whether a body is known to be small enough to be stored, before it is there."""
        if response.body is not None:
            return len(response.body) <= self.policy.largest
        return response.ended or (response.headers.get("content-length") or "").isdigit()

    def _asked(self, passage: Passage, method: str) -> storing.Asked:
        credentials = self.policy.shared and "authorization" in passage.headers
        return storing.Asked(method, passage.asked.no_store, credentials and self.forwards)

    def freshened(self, passage: Passage, entry: Entry, headers: Headers) -> Entry:
        """Update what is stored by a 304, and store it (RFC 9111 section 4.3.4)."""
        now = self.clock.now()
        pairs = validating.freshened(entry.headers, headers)
        whole = Headers(pairs)
        for name in ("age", "date"):
            if name in headers:
                whole[name] = headers[name]
        kept = storing.kept(self._asked(passage, "GET"), entry.status, whole, self.policy, now)
        fresh = making.refreshed(
            entry,
            whole,
            kept,
            pairs,
            passage.headers,
            sent=passage.sent,
            now=now,
            stamp=passage.stamp,
        )
        if kept.why_not:
            self.responses.drop(passage.key, entry)
        else:
            self.responses.keep(passage.key, fresh, instead=entry)
            self.responses.came(passage.key, passage.headers, fresh)
        return fresh

    def head(self, passage: Passage, response: Response) -> None:
        """Update or drop what is stored by a HEAD's response (RFC 9111 section 4.3.5)."""
        entry = passage.entry
        if entry is None or response.status != entry.status:
            return
        length = response.headers.get("content-length")
        same = (
            (response.headers.get("etag") or "") == entry.etag
            and (response.headers.get("last-modified") or "") == entry.modified
            and length in {None, str(len(entry.body))}
        )
        if same:
            self.freshened(passage, entry, response.headers)
        else:
            self.responses.drop(passage.key, entry)

    def _made(
        self, request: Request, passage: Passage, response: Response, body: bytes
    ) -> Entry | None:
        now = self.clock.now()
        return making.made(
            response.status,
            passage.fields,
            body,
            passage.kept or storing.Kept(),
            passage.headers,
            sent=passage.sent,
            now=now,
            uri=self.key.uri(request),
            tags=(
                *texts(self.tags, Context(request, now, response)),
                # Of an aggregate: those of its parts.
                *response.metadata.get("tags", ()),
            ),
            stamp=passage.stamp,
            largest=self.policy.largest,
        )

    def answered(self, request: Request, passage: Passage, entry: Entry, response: Response) -> str:
        """Take an answer that came in the background; say what became of it."""
        if response.status == _NOT_MODIFIED:
            if validating.confirms(response.headers, entry):
                self.freshened(passage, entry, response.headers)
                return "revalidated"
            self.responses.drop(passage.key, entry)
            return "revalidation-failed"
        kept = self.kept(passage, response, self.clock.now())
        body = response.body or b""
        if kept.why_not or len(body) > self.policy.largest:
            less = storing.is_less(response.headers, response.metadata)
            if storing.is_telling(response.status) and not less:
                self.responses.drop(passage.key, entry)
            return "revalidation-failed"
        passage.kept, passage.pieces, passage.fields = kept, [body], response.headers
        return "stored" if self.store(request, passage, response) else "revalidation-failed"
