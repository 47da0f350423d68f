"""A request and a response, as plugins see them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from extproc.core.facts import Facts
from extproc.core.headers import Headers
from extproc.core.principal import ANONYMOUS, Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROBLEM_TYPE = "application/problem+json"
_HOST = re.compile(r"(?:[a-z0-9._~-]*|\[[0-9a-f:.]+\])\Z")
_DOTS_WITH_PARAMETER = re.compile(r"/\.{1,2}(?:;|%3b)", re.IGNORECASE)
_LONGEST_HOST = 255  # RFC 1035 section 2.3.4
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


class MalformedRequest(ValueError):
    """The request's query or path parameters can't be decoded (invalid UTF-8)."""


_SCHEMES = frozenset({"http", "https", ""})  # some ingresses say none over ext_authz


class Head:
    """What a request asks for: many requests share one.

    Attributes:
        method: as sent, for example `GET`.
        scheme: `http` or `https`.
        host: the authority, lower case, without port.
        target: Envoy's normalised path with the query as sent.
        path: the path alone; what policies judge and what was matched.
        query: as sent, without `?`.
        problem: why no route may serve it, for the client; empty for nothing.
    """

    __slots__ = ("host", "method", "path", "problem", "query", "scheme", "target")

    def __init__(self, method: str, scheme: str, host: str, target: str) -> None:
        self.method = method
        self.scheme = scheme
        self.host = host
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.problem = ""
        if scheme not in _SCHEMES:
            self.problem = "the scheme is neither http nor https"
        elif not is_host(host):
            self.problem = "the host is not one name"
        elif not is_plain_path(self.path):
            self.problem = "the path has a dot segment with a parameter"


class Request:
    """One request, from the first hook to the last.

    Attributes:
        head: what it asks for, as it came.
        method: as sent, for example `GET`.
        scheme: `http` or `https`.
        host: the authority, lower case, without port.
        target: Envoy's normalised path with the query as sent.
        path: the path alone; what policies judge and what was matched.
        query: the query, without `?`.
        address: the client's IP address after trusted proxies.
        attributes: what Envoy says of the request beside its headers, by name.
        route: the name of the route.
        headers: a recorder; changes go to the upstream.
        params: the path's parameters, decoded.
        principal: who is calling; anonymous until authentication says otherwise.
        beside: whose credentials were demanded and good as well (`all:`), in order.
        consumer: the class of client; empty for none.
        body: the whole body once `on_request_body` was reached on this route, else None.
        bodied: whether it has a body.
        max_age: how old the parts of an answer may be, seconds, as the client asks of a cached
            route (RFC 9111 section 5.2.1); below 0 for parts that are validated.
        slot: the place in the chain of the plugin whose hook runs.
        endings: what is called when the exchange ends; see `at_end`.
        cut: ends the exchange at once, in the middle of what passes; the server sets it where
            somebody wants to know of the end, and can't everywhere.
    """

    # Most requests leave most of these as they are.
    route = ""
    principal: Principal = ANONYMOUS
    beside: tuple[Principal, ...] = ()
    consumer = ""
    body: bytes | None = None
    bodied = False
    max_age = inf
    slot = 0
    endings: list[Callable[[], object]] | None = None
    cut: Callable[[], None] | None = None
    _id: str | None = None
    _facts: Facts | None = None
    _metadata: dict[str, Any] | None = None
    _queries: dict[str, list[str]] | None = None
    _rewritten: str | None = None
    _states: dict[int, SimpleNamespace] | None = None

    def __init__(
        self,
        *,
        method: str = "GET",
        scheme: str = "http",
        host: str = "",
        target: str = "/",
        headers: Headers | None = None,
        request_id: str | None = None,
        address: str = "",
        route: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self._asks(Head(method, scheme, host, target))
        self.headers = headers if headers is not None else Headers()
        self.address = address
        self.attributes: Mapping[str, str] = attributes or {}
        self.params: dict[str, str] = {}
        self._id = request_id
        self.route = route

    @classmethod
    def came(
        cls, head: Head, headers: Headers, address: str, attributes: Mapping[str, str]
    ) -> Request:
        """Make the request that a message holds; `params` are set once its route is known."""
        made = _blank(cls)
        made._asks(head)  # noqa: SLF001 - as `__init__` does
        made.headers = headers
        made.address = address
        made.attributes = attributes
        return made

    def _asks(self, head: Head) -> None:
        self.head = head
        self.method = head.method
        self.scheme = head.scheme
        self.host = head.host
        self.target = head.target
        self.path = head.path
        self.query = head.query

    @property
    def id(self) -> str:
        """The request id (`x-request-id` as it came), which the client gets back."""
        known = self._id
        if known is None:
            known = self._id = self.headers.request_id()
        return known

    @property
    def noted(self) -> Facts | None:
        """What goes into the decision record, if anything was noted."""
        return self._facts

    @property
    def facts(self) -> Facts:
        """What goes into the decision record."""
        facts = self._facts
        if facts is None:
            facts = self._facts = Facts()
        return facts

    @property
    def state(self) -> SimpleNamespace:
        """The current plugin's own namespace for this exchange."""
        states = self._states
        if states is None:
            states = self._states = {}
        state = states.get(self.slot)
        if state is None:
            state = states[self.slot] = SimpleNamespace()
        return state

    def at_end(self, ending: Callable[[], object]) -> None:
        """Have a function called when the exchange ends, whatever the end; it must not wait.

        What few exchanges need: `on_finish` costs every exchange of the route.
        """
        if self.endings is None:
            self.endings = []
        self.endings.append(ending)

    def end(self) -> None:
        """Call what wants to know of the end, once."""
        endings, self.endings = self.endings, None
        for ending in endings or ():
            ending()

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts a plugin hands to later plugins by a name both know."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @property
    def queries(self) -> dict[str, list[str]]:
        """The query's parameters, decoded once, each with all its values.

        Raises:
            MalformedRequest: a name or value isn't UTF-8.
        """
        if self._queries is None:
            self._queries = parse_query(self.query)
        return self._queries

    def take_query(self, query: str) -> None:
        """Put another query in place of the one that came, for plugins and for the upstream.

        Args:
            query: encoded, without `?`; empty for none.
        """
        self.query = query
        self.target = f"{self.path}?{query}" if query else self.path
        self._queries = None
        self._rewritten = self.target

    def rewrite(self, target: str) -> None:
        """Give the upstream another path and query; routing and policies keep the first.

        Raises:
            ValueError: the target doesn't begin with `/` or holds a blank or control character.
        """
        if not target.startswith("/") or any(c <= " " or c == "\x7f" for c in target):
            raise ValueError("a rewritten path begins with / and holds no blank")
        self._rewritten = target

    @property
    def rewritten(self) -> str | None:
        """What the upstream gets in place of the target; None for the target itself."""
        return self._rewritten


# Made from a message it is put together by `came`: the keywords of `__init__` cost as much again.
_blank: Callable[[type[Request]], Request] = Request.__new__


class Response:
    """A status, headers and a body: the upstream's, or one a plugin makes.

    Attributes:
        status: 200 to 599; an upstream's is what it sent.
        headers: a recorder, as on the request.
        body: bytes; None while the upstream's body isn't known.
        reason: the machine-readable reason of a problem; empty otherwise.
        code_details: where the response comes from in Envoy's words; `via_upstream` for an
            upstream's, empty for one made here.
        metadata: facts a plugin hands to plugins that see the response later.
        ended: the body piece that a hook is given is the last one, or no body follows the headers.
        encoded: of a response that is given again and again: what the wire made of it. None for
            a response that may still be changed.
        released: the places in the chain (`request.slot`) of plugins that need no more of the
            body; when all have said so, the rest passes unseen.
    """

    __slots__ = (
        "_problem",
        "body",
        "code_details",
        "encoded",
        "ended",
        "headers",
        "metadata",
        "reason",
        "released",
        "status",
    )

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | Headers | None = None,
        body: bytes | None = b"",
    ) -> None:
        if not 200 <= status <= 599:  # noqa: PLR2004 - the range of final statuses, RFC 9110 section 15
            raise ValueError(f"status {status} is not between 200 and 599")
        self.status = status
        self.headers = headers if isinstance(headers, Headers) else Headers(_lowered(headers or {}))
        self.body = body
        self.reason = ""
        self.code_details = ""
        self.metadata: dict[str, Any] = {}
        self.released: set[int] = set()
        self.ended = False
        self.encoded: dict[str, bytes] | None = None
        self._problem: dict[str, Any] | None = None

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Response:
        """Make a JSON response from plain values."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return cls(status, {"content-type": "application/json"}, body.encode())

    @classmethod
    def problem(
        cls, status: int, title: str, detail: str = "", *, reason: str | None = None
    ) -> Response:
        """Make an `application/problem+json` response (RFC 9457).

        Args:
            status: 400 to 599.
            title: a short text that is the same for each problem of this kind.
            detail: what is particular to this one; the client reads it, so no secrets.
            reason: `type` is `urn:extproc:<reason>`; by default the title as a slug.
        """
        response = cls(status, {"content-type": PROBLEM_TYPE}, b"")
        response.reason = reason or _NOT_SLUG.sub("_", title.lower()).strip("_")
        response._problem = {
            "type": f"urn:extproc:{response.reason}",
            "title": title,
            "status": status,
            "detail": detail,
        }
        return response

    @classmethod
    def malformed(cls, detail: str, *, reason: str = "malformed") -> Response:
        """Make the problem with status 400 for a request that can't be read as it must be.

        Args:
            detail: what is wrong with it, without a secret and as a sentence.
            reason: which part; the code of the answer and of the decision record.
        """
        return cls.problem(400, "Malformed request", detail, reason=reason)

    def wrong(self) -> str:
        """Say what no client can be sent, of what a plugin put here; empty where nothing is."""
        if not isinstance(self.status, int) or not 200 <= self.status <= 599:  # noqa: PLR2004 - as above
            return "the status is no number from 200 to 599"
        if not isinstance(self.body, bytes | None):
            return f"the body is {type(self.body).__name__}, not bytes"
        return ""

    def copy(self) -> Response:
        """Return one that may be changed without changing this one."""
        other = Response(self.status, Headers(self.headers.items()), self.body)
        other.reason, other.code_details = self.reason, self.code_details
        return other

    def bind(self, request_id: str) -> None:
        """Write a problem's body, now that the instance (the request id) is known."""
        if self._problem is not None:
            problem = self._problem | {"instance": request_id or None}
            self.body = json.dumps(problem, ensure_ascii=False, separators=(",", ":")).encode()
            self._problem = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an exchange ended, for `on_finish`.

    Attributes:
        decision: allow, deny or error; empty if the exchange ended before one was made.
        status: the response's status, None where the service didn't see one.
        reason: of a denial or error; empty otherwise.
        by: the plugin that answered; empty for the upstream.
        duration: seconds from the first message to the end.
    """

    decision: str
    status: int | None
    reason: str
    by: str
    duration: float


def is_host(text: str) -> bool:
    """Say whether a host is one name or address; two Host headers joined are not."""
    # What clients choose is remembered only where it is short.
    return _is_host(text) if len(text) <= _LONGEST_HOST else bool(_HOST.match(text))


@lru_cache(maxsize=4096)
def _is_host(text: str) -> bool:
    return bool(_HOST.match(text))


def is_plain_path(path: str) -> bool:
    """Say whether a normalised path has no `..;x`: for some upstreams that is `..`.

    Envoy decodes `%2e` after it has taken dot segments out, and leaves `%3b` as it is.
    """
    return not ((";" in path or "%3" in path) and _DOTS_WITH_PARAMETER.search(path))


def parse_query(query: str) -> dict[str, list[str]]:
    """Decode a query string once: `+` is a blank, percent-encoded bytes are UTF-8.

    Raises:
        MalformedRequest: a name or value isn't UTF-8.
    """
    parameters: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            parameters.setdefault(decoded(name.replace("+", " ")), []).append(
                decoded(value.replace("+", " "))
            )
    return parameters


def decoded(text: str) -> str:
    """Undo percent-encoding once.

    Raises:
        MalformedRequest: the bytes aren't UTF-8.
    """
    if "%" not in text and text.isascii():
        return text
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError as error:
        raise MalformedRequest("a parameter isn't UTF-8") from error


def _lowered(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    fresh = Headers()
    for name, value in headers.items():
        fresh[name] = value
    return list(fresh.items())
