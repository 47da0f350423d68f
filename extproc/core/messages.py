"""What comes in an exchange and what is answered, free of any wire format.

Those made for every exchange or call have their `__init__` written out: a dataclass's own is never
compiled (docs/decisions/0008).
"""

from __future__ import annotations

from dataclasses import dataclass

from extproc.core.headers import Changes, Headers
from extproc.core.law import Side
from extproc.core.values import Request, Response


@dataclass(slots=True, init=False)
class RequestHeaders:
    """The request's headers came.

    Attributes:
        request: what plugins will see; its route isn't known yet.
        route_key: `route@version`, as Envoy matched it; empty where it doesn't say. Over ext_authz
            an ingress may leave out the version.
        end: no body follows.
        partial: of which side what comes as the whole body may be its beginning, and the rest
            pass unseen.
    """

    request: Request
    route_key: str
    end: bool
    partial: frozenset[Side]

    def __init__(
        self,
        request: Request,
        route_key: str,
        end: bool,  # noqa: FBT001 - a field
        partial: frozenset[Side] = frozenset(),
    ) -> None:
        self.request = request
        self.route_key = route_key
        self.end = end
        self.partial = partial


@dataclass(slots=True, init=False)
class ResponseHeaders:
    """The response's headers came."""

    status: int
    headers: Headers
    end: bool
    code_details: str

    def __init__(self, status: int, headers: Headers, end: bool, code_details: str = "") -> None:  # noqa: FBT001 - a field
        self.status = status
        self.headers = headers
        self.end = end
        self.code_details = code_details


@dataclass(slots=True, init=False)
class Body:
    """A whole body or a piece of one."""

    side: Side
    data: bytes
    end: bool

    def __init__(self, side: Side, data: bytes, end: bool) -> None:  # noqa: FBT001 - a field
        self.side = side
        self.data = data
        self.end = end


@dataclass(slots=True)
class Trailers:
    """Trailers came."""

    side: Side


Event = RequestHeaders | ResponseHeaders | Body | Trailers


@dataclass(slots=True)
class Continue:
    """Answer to headers: go on, with changes.

    Attributes:
        side: whose headers.
        changes: of headers.
        target: another `:path` for the upstream.
        status: another `:status` for the client.
        body: replaces (or adds) the body, and ends the side.
        verdict: lets the request through to the upstream; None withholds it.
        watch: the response's body is to come here in pieces.
        unsized: its content length isn't that of what a GET would be given: it is taken out.
        written: what the wire made of it, for an answer that is given again.
    """

    side: Side
    changes: Changes | None = None
    target: str | None = None
    status: int | None = None
    body: bytes | None = None
    verdict: str | None = None
    watch: bool = False
    unsized: bool = False
    written: tuple[bytes, ...] | None = None


@dataclass(slots=True)
class BodyAnswer:
    """Answer to a body: unchanged (`body` None) or other bytes; header changes if buffered.

    Attributes:
        had_length: the message came with a content length, which must follow the body's.
        unsized: as for `Continue`.
    """

    side: Side
    body: bytes | None = None
    buffered: bool = False
    had_length: bool = False
    changes: Changes | None = None
    target: str | None = None
    status: int | None = None
    verdict: str | None = None
    unsized: bool = False


@dataclass(slots=True)
class TrailersAnswer:
    """Answer to trailers: go on."""

    side: Side


@dataclass(slots=True, init=False)
class Immediate:
    """Answer the client from here.

    Attributes:
        response: what it gets.
        streamed: send it in the streamed form, which alone can leave out a content type.
        bare: its body isn't sent, only its length said.
    """

    response: Response
    streamed: bool
    bare: bool

    def __init__(self, response: Response, streamed: bool = False, bare: bool = False) -> None:  # noqa: FBT001, FBT002 - a field
        self.response = response
        self.streamed = streamed
        self.bare = bare


@dataclass(slots=True)
class GiveUp:
    """Close the stream cleanly: the rest of the response passes unseen."""


Answer = Continue | BodyAnswer | TrailersAnswer | Immediate | GiveUp
ANSWERS = (Continue, Immediate, BodyAnswer, TrailersAnswer, GiveUp)
"""The same for `isinstance`, which is several times slower with a union."""
