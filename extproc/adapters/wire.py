"""ext_proc messages to core values and back; all of Envoy's rules for them live here.

What this module alone knows (envoy.service.ext_proc.v3, Envoy 1.40):

* header values travel in `raw_value`; `value` would give an empty header;
* of the two ways to say "append" only the deprecated BoolValue works; absent means replace;
* removals are done before sets;
* which headers Envoy refuses or must never be given (`FORBIDDEN`);
* a buffered body that changes its length must change `content-length` in the same answer, and
  only if there was one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.core.errors import PeerFault
from extproc.core.headers import Changes, Headers
from extproc.core.law import Side
from extproc.core.messages import (
    Answer,
    Body,
    BodyAnswer,
    Continue,
    Event,
    GiveUp,
    Immediate,
    RequestHeaders,
    ResponseHeaders,
    Trailers,
    TrailersAnswer,
)
from extproc.core.verdict import (
    ADDRESS_ATTRIBUTE,
    DETAILS_ATTRIBUTE,
    NAMESPACE,
    ROUTE_ATTRIBUTE,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

_ATTRIBUTES_KEY = "envoy.filters.http.ext_proc"

# Message framing and hop-by-hop fields belong to Envoy (RFC 9110 section 7.6.1); the others
# its mutation rules refuse. A plugin that writes one of them has no effect.
FORBIDDEN = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_FORBIDDEN_PREFIX = "x-envoy-"

_SIDES = {
    "request_body": Side.REQUEST,
    "response_body": Side.RESPONSE,
    "request_trailers": Side.REQUEST,
    "response_trailers": Side.RESPONSE,
}


class Codec:
    """Translates the messages of one stream; remembers what a later answer depends on."""

    __slots__ = ("_has_length",)

    def __init__(self) -> None:
        self._has_length = {Side.REQUEST: False, Side.RESPONSE: False}

    def decode(self, data: bytes) -> Event:
        """Read one ProcessingRequest.

        Raises:
            PeerFault: the bytes aren't such a message, or it carries none of the six kinds.
        """
        try:
            message = pb.ProcessingRequest.FromString(data)
        except DecodeError as error:
            raise PeerFault("the message is no ProcessingRequest") from error
        kind = message.WhichOneof("request")
        if kind == "request_headers":
            return self._request_headers(message)
        if kind == "response_headers":
            return self._response_headers(message)
        if kind in {"request_body", "response_body"}:
            part = getattr(message, kind)
            return Body(_SIDES[kind], part.body, part.end_of_stream)
        if kind in {"request_trailers", "response_trailers"}:
            return Trailers(_SIDES[kind])
        raise PeerFault("the message holds no request, response, body or trailers")

    def _request_headers(self, message: pb.ProcessingRequest) -> RequestHeaders:
        part = message.request_headers
        pseudo, headers = _split(part.headers.headers)
        self._has_length[Side.REQUEST] = "content-length" in headers
        attributes = _attributes(message.attributes)
        return RequestHeaders(
            method=pseudo.get(":method", ""),
            scheme=pseudo.get(":scheme", ""),
            host=host_only(pseudo.get(":authority", "")),
            target=pseudo.get(":path", ""),
            headers=headers,
            request_id=headers.get("x-request-id") or "",
            address=address_only(attributes.get(ADDRESS_ATTRIBUTE, "")),
            route_key=attributes.get(ROUTE_ATTRIBUTE, ""),
            end=part.end_of_stream,
            attributes=attributes,
        )

    def _response_headers(self, message: pb.ProcessingRequest) -> ResponseHeaders:
        part = message.response_headers
        pseudo, headers = _split(part.headers.headers)
        self._has_length[Side.RESPONSE] = "content-length" in headers
        status = pseudo.get(":status", "")
        if not status.isdecimal():
            raise PeerFault("the response has no status")
        details = _attributes(message.attributes).get(DETAILS_ATTRIBUTE, "")
        return ResponseHeaders(int(status), headers, part.end_of_stream, details)

    def encode(self, answer: Answer) -> tuple[bytes, ...]:
        """Write the messages of one answer; none means: close the stream cleanly."""
        match answer:
            case Continue():
                return (self._continue(answer),)
            case BodyAnswer():
                return (self._body(answer),)
            case TrailersAnswer(side=side):
                return (_TRAILERS[side],)
            case Immediate(streamed=True):
                return _streamed(answer)
            case Immediate():
                return (_immediate(answer),)
            case GiveUp():
                return ()

    def _continue(self, answer: Continue) -> bytes:
        if not (answer.changes or answer.target or answer.status or answer.body is not None):
            return _unchanged(answer.side, answer.verdict)
        common = pb.CommonResponse()
        _mutate(common.header_mutation, answer.changes, answer.target, answer.status)
        if answer.body is not None:
            common.status = pb.CommonResponse.CONTINUE_AND_REPLACE
            common.body_mutation.body = answer.body
        return _headers_answer(answer.side, common, answer.verdict)

    def _body(self, answer: BodyAnswer) -> bytes:
        common = pb.CommonResponse()
        if answer.body is not None:
            common.body_mutation.body = answer.body
        if answer.buffered:
            _mutate(common.header_mutation, answer.changes, answer.target, answer.status)
            if answer.body is not None and self._has_length[answer.side]:
                _set(common.header_mutation, "content-length", str(len(answer.body)))
        part = pb.BodyResponse(response=common)
        if answer.side is Side.REQUEST:
            message = pb.ProcessingResponse(request_body=part)
        else:
            message = pb.ProcessingResponse(response_body=part)
        return message.SerializeToString() + _verdict(answer.verdict)


def override_timeout(seconds: float) -> bytes:
    """Ask for more time for the message that is being answered."""
    message = pb.ProcessingResponse()
    message.override_message_timeout.FromMilliseconds(max(1, round(seconds * 1000)))
    return message.SerializeToString()


def host_only(authority: str) -> str:
    """Return the host in lower case, without port and trailing dot."""
    host = authority.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


def address_only(address: str) -> str:
    """Return the IP address of Envoy's `ip:port` or `[ip]:port`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] or address


def may_set(name: str) -> bool:
    """Say whether a plugin's change of this header is sent."""
    return name not in FORBIDDEN and not name.startswith((":", _FORBIDDEN_PREFIX))


def _split(values: Iterable[Any]) -> tuple[dict[str, str], Headers]:
    """Part pseudo headers from the others; bytes become text one to one (latin-1)."""
    pseudo: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    for header in values:
        name = header.key
        text = header.raw_value.decode("latin-1") or header.value
        if name.startswith(":"):
            pseudo[name] = text
        else:
            pairs.append((name, text))
    return pseudo, Headers(pairs)


def _attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    if _ATTRIBUTES_KEY not in attributes:
        return {}
    fields = attributes[_ATTRIBUTES_KEY].fields
    return {name: fields[name].string_value for name in fields}


def _set(mutation: pb.HeaderMutation, name: str, value: str, *, append: bool = False) -> None:
    option = mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value.encode("latin-1")
    if append:
        option.append.value = True


def _mutate(
    mutation: pb.HeaderMutation, changes: Changes | None, target: str | None, status: int | None
) -> None:
    if target is not None:
        _set(mutation, ":path", target)
    if status is not None:
        _set(mutation, ":status", str(status))
    if changes is not None:
        mutation.remove_headers.extend(filter(may_set, changes.remove))
        for name, values in changes.set:
            if may_set(name):
                for place, value in enumerate(values):
                    _set(mutation, name, value, append=place > 0)


def _headers_answer(side: Side, common: pb.CommonResponse, verdict: str | None) -> bytes:
    part = pb.HeadersResponse(response=common)
    if side is Side.REQUEST:
        message = pb.ProcessingResponse(request_headers=part)
    else:
        message = pb.ProcessingResponse(response_headers=part)
    return message.SerializeToString() + _verdict(verdict)


# There are as many as there are routes in force; a bound, since versions come and go.
_bounded = lru_cache(maxsize=20_000)


@_bounded
def _verdict(verdict: str | None) -> bytes:
    """Return the bytes of a message that holds the verdict alone.

    Messages written one after the other are read as one (protobuf's encoding guide, "Last One
    Wins"), so these can follow any answer.
    """
    if verdict is None:
        return b""
    message = pb.ProcessingResponse()
    message.dynamic_metadata.update({NAMESPACE: {"verdict": verdict}})
    return message.SerializeToString()


@_bounded
def _unchanged(side: Side, verdict: str | None) -> bytes:
    """Return the bytes of an answer that changes nothing; the same for each request."""
    return _headers_answer(side, pb.CommonResponse(), verdict)


def _immediate(answer: Immediate) -> bytes:
    response = answer.response
    message = pb.ProcessingResponse()
    immediate = message.immediate_response
    immediate.status.code = response.status
    immediate.details = f"{NAMESPACE}_{response.reason or 'answered'}"
    immediate.body = response.body or b""
    for name in response.headers:
        if may_set(name):
            for place, value in enumerate(response.headers.get_all(name)):
                _set(immediate.headers, name, value, append=place > 0)
    return message.SerializeToString()


def _streamed(answer: Immediate) -> tuple[bytes, ...]:
    response = answer.response
    body = response.body or b""
    head = pb.ProcessingResponse()
    headers = head.streamed_immediate_response.headers_response.headers.headers
    headers.add(key=":status", raw_value=str(response.status).encode())
    headers.add(key="content-length", raw_value=str(len(body)).encode())
    for name, value in response.headers.items():
        if may_set(name):
            headers.add(key=name, raw_value=value.encode("latin-1"))
    rest = pb.ProcessingResponse()
    rest.streamed_immediate_response.body_response.body = body
    rest.streamed_immediate_response.body_response.end_of_stream = True
    return head.SerializeToString(), rest.SerializeToString()


_TRAILERS = {
    Side.REQUEST: pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString(),
    Side.RESPONSE: pb.ProcessingResponse(
        response_trailers=pb.TrailersResponse()
    ).SerializeToString(),
}
