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

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from extproc.adapters import wire_headers
from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.messages.received_pb2 import ReceivedRequest
from extproc.adapters.wire_headers import LONGEST_REMEMBERED, Received, each, pseudo
from extproc.core.errors import PeerFault
from extproc.core.headers import Changes
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
from extproc.core.values import Head, Request, Response
from extproc.core.verdict import DETAILS_ATTRIBUTE, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

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
_read = ReceivedRequest.FromString
_PORT = re.compile(r"(?::[0-9]{1,5})?\Z")
_PIECE = 64 << 10  # of a streamed body
_LONGEST_CHANGES = 1024  # of an answer that is remembered
_PSEUDO = 4  # method, scheme, authority and path (RFC 9113 section 8.3.1)
_BUFFERED_PARTIAL = 3  # ProcessingMode.BodySendMode
_SHORT = 4096  # bytes of a message of which something is remembered


def decode(data: bytes) -> Event:
    """Read one ProcessingRequest.

    Raises:
        PeerFault: the bytes aren't such a message, or it carries none of the six kinds.
    """
    try:
        message = _read(data)
    except DecodeError as error:
        raise PeerFault("the message is no ProcessingRequest") from error
    if message.HasField("request_headers"):
        return _request_headers(message, len(data))
    match message.WhichOneof("request"):
        case "response_headers":
            return _response_headers(message)
        case "request_body":
            part = message.request_body
            return Body(Side.REQUEST, part.body, part.end_of_stream)
        case "response_body":
            part = message.response_body
            return Body(Side.RESPONSE, part.body, part.end_of_stream)
        case "request_trailers":
            return Trailers(Side.REQUEST)
        case "response_trailers":
            return Trailers(Side.RESPONSE)
    raise PeerFault("the message holds no request, response, body or trailers")


def _request_headers(message: ReceivedRequest, size: int) -> RequestHeaders:
    part = message.request_headers
    raw = part.headers
    first = wire_headers.end_of(raw, _PSEUDO)
    head = _head_again(raw[:first]) if size <= _SHORT else None
    if head is None:
        head, first = _head(raw), 0
    route_key, address, attributes = wire_headers.attributes(message.attributes)
    request = Request.came(head, Received(raw, first), address, attributes)
    return RequestHeaders(request, route_key, part.end_of_stream, _partial(message.protocol_config))


@lru_cache(maxsize=64)
def _partial(config: bytes) -> frozenset[Side]:
    """Return of which side a body that isn't whole may come as if it were."""
    try:
        modes = pb.ProtocolConfiguration.FromString(config)
    except DecodeError as error:
        raise PeerFault("the body modes can't be read") from error
    told = ((Side.REQUEST, modes.request_body_mode), (Side.RESPONSE, modes.response_body_mode))
    return frozenset(side for side, mode in told if mode == _BUFFERED_PARTIAL)


def _head(raw: bytes) -> Head:
    """Read what a request asks for.

    Raises:
        PeerFault: something among the headers is none.
    """
    named = pseudo(each(raw)).get
    host = host_only(named(":authority", ""))
    return Head(named(":method", ""), named(":scheme", ""), host, named(":path", ""))


@lru_cache(maxsize=2048)
def _head_again(raw: bytes) -> Head | None:
    """Read it from the first headers alone: Envoy's map keeps the pseudo header fields there.

    Returns:
        None where they are other headers.

    Raises:
        PeerFault: as `_head`.
    """
    first = each(raw)
    if len(first) == _PSEUDO and all(one[:1] == b"\n" and one[2:3] == b":" for one in first):
        return _head(raw)
    return None


def _response_headers(message: ReceivedRequest) -> ResponseHeaders:
    part = message.response_headers
    status = pseudo(each(part.headers)).get(":status", "")
    if len(status) != 3 or not status.isdecimal():  # noqa: PLR2004 - RFC 9110 section 15
        raise PeerFault("the response has no status")
    details = wire_headers.attributes(message.attributes).all.get(DETAILS_ATTRIBUTE, "")
    return ResponseHeaders(int(status), Received(part.headers), part.end_of_stream, details)


def encode(answer: Answer) -> tuple[bytes, ...]:
    """Write the messages of one answer; none means: close the stream cleanly."""
    match answer:
        case Continue():
            messages = answer.written or _continue(answer)
            answer.written = messages
        case BodyAnswer():
            messages = (_body(answer),)
        case TrailersAnswer(side=side):
            messages = (_TRAILERS[side],)
        case Immediate(streamed=True):
            messages = _streamed(answer)
        case Immediate():
            messages = (_immediate(answer),)
        case GiveUp():
            messages = ()
    return messages


def _continue(answer: Continue) -> tuple[bytes, ...]:
    if answer.body is not None or answer.unsized:
        return (_headers_answer(answer),)
    if answer.watch:
        return (_headers_answer(answer) + _WATCH,)
    changes, target = answer.changes, answer.target
    if changes is None:
        if target is not None and len(target) > _LONGEST_CHANGES:
            return (_headers_answer(answer),)
        return _same_for_many(answer.side, target, answer.status, (), (), answer.verdict)
    if _size(target, changes) > _LONGEST_CHANGES:
        return (_headers_answer(answer),)
    return _same_for_many(
        answer.side, target, answer.status, changes.remove, changes.set, answer.verdict
    )


def _size(target: str | None, changes: Changes) -> int:
    """Return about how long an answer is."""
    size = len(target) if target is not None else 0
    for name, values in changes.set:
        size += len(name) + len(values[0])
        if len(values) > 1:
            size += sum(map(len, values))
    return size


def _headers_answer(answer: Continue) -> bytes:
    message = pb.ProcessingResponse()
    if answer.side is Side.REQUEST:
        common = message.request_headers.response
    else:
        common = message.response_headers.response
    if answer.changes or answer.target is not None or answer.status is not None:
        _mutate(common.header_mutation, answer.changes, answer.target, answer.status)
    if answer.unsized:
        common.header_mutation.remove_headers.append("content-length")
    if answer.body is not None:
        common.status = pb.CommonResponse.CONTINUE_AND_REPLACE
        common.body_mutation.body = answer.body
    else:
        common.SetInParent()
    return message.SerializeToString() + _verdict(answer.verdict)


def _body(answer: BodyAnswer) -> bytes:
    common = pb.CommonResponse()
    if answer.body is not None:
        common.body_mutation.body = answer.body
    if answer.buffered:
        _mutate(common.header_mutation, answer.changes, answer.target, answer.status)
        if answer.body is not None and answer.had_length:
            _set(common.header_mutation, "content-length", str(len(answer.body)))
    if answer.unsized:
        common.header_mutation.remove_headers.append("content-length")
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
    if len(authority) <= LONGEST_REMEMBERED:
        return _host_again(authority)
    return _host(authority)


def _host(authority: str) -> str:
    """Take port and trailing dot off; what is neither name nor address stays as it is.

    Envoy takes off a port that is a number, and routes the rest as it came: a host that only we
    would read out of it could have another route than its policies think.
    """
    host = authority.lower()
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        name += bracket
    else:
        name, colon, rest = host.partition(":")
        rest = colon + rest
    return name.removesuffix(".") if _PORT.match(rest) else host


_host_again = lru_cache(maxsize=4096)(_host)


def may_set(name: str) -> bool:
    """Say whether a plugin's change of this header is sent."""
    return name not in FORBIDDEN and not name.startswith((":", _FORBIDDEN_PREFIX))


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


@lru_cache(maxsize=4096)
def _same_for_many(
    side: Side,
    target: str | None,
    status: int | None,
    remove: tuple[str, ...],
    set_: tuple[tuple[str, tuple[str, ...]], ...],
    verdict: str | None,
) -> tuple[bytes, ...]:
    """Return the messages of an answer; a route's requests often have the same changes."""
    written = Changes(remove, set_) if remove or set_ else None
    return (_headers_answer(Continue(side, written, target, status, None, verdict)),)


def _immediate(answer: Immediate) -> bytes:
    encoded = answer.response.encoded
    if encoded is None:
        return _written(answer.response)
    known = encoded.get(PROCESS)
    if known is None:
        known = encoded[PROCESS] = _written(answer.response)
    return known


def _written(response: Response) -> bytes:
    pairs = tuple(response.headers.items())
    size = sum([len(name) + len(value) for name, value in pairs])
    begin = _begun if size <= _LONGEST_CHANGES else _begun.__wrapped__
    message = pb.ProcessingResponse.FromString(begin(response.status, response.reason, pairs))
    if response.body:
        message.immediate_response.body = response.body
    return message.SerializeToString()


@lru_cache(maxsize=1024)
def _begun(status: int, reason: str, pairs: tuple[tuple[str, str], ...]) -> bytes:
    """Return an immediate answer without its body: many have the rest in common."""
    message = pb.ProcessingResponse()
    immediate = message.immediate_response
    immediate.status.code = status
    immediate.details = f"{NAMESPACE}_{reason or 'answered'}"
    known: set[str] = set()
    for name, value in pairs:
        if may_set(name):
            _set(immediate.headers, name, value, append=name in known)
            known.add(name)
    return message.SerializeToString()


def _streamed(answer: Immediate) -> tuple[bytes, ...]:
    response = answer.response
    body = response.body or b""
    head = pb.ProcessingResponse()
    headers = head.streamed_immediate_response.headers_response.headers.headers
    headers.add(key=":status", raw_value=str(response.status).encode())
    headers.add(key="content-length", raw_value=str(len(body)).encode())
    for name in dict.fromkeys([name for name, _ in response.headers.items()]):
        if may_set(name):
            value = ", ".join(response.headers.get_all(name))
            headers.add(key=name, raw_value=value.encode("latin-1"))
    if answer.bare:
        head.streamed_immediate_response.headers_response.end_of_stream = True
        return (head.SerializeToString(),)
    return head.SerializeToString(), *_pieces(body)


def _pieces(body: bytes) -> Iterator[bytes]:
    """Yield the messages of a body; the last one says so."""
    for start in range(0, max(len(body), 1), _PIECE):
        message = pb.ProcessingResponse()
        message.streamed_immediate_response.body_response.body = body[start : start + _PIECE]
        message.streamed_immediate_response.body_response.end_of_stream = start + _PIECE >= len(
            body
        )
        yield message.SerializeToString()


# A body mode that isn't named here would be none, so all are (ext_proc.proto, `mode_override`).
_WATCH = pb.ProcessingResponse(
    mode_override=pb.ProcessingMode(
        request_header_mode=1,
        response_header_mode=1,
        request_body_mode=0,
        response_body_mode=1,
        request_trailer_mode=2,
        response_trailer_mode=2,
    )
).SerializeToString()
_TRAILERS = {
    Side.REQUEST: pb.ProcessingResponse(request_trailers=pb.TrailersResponse()).SerializeToString(),
    Side.RESPONSE: pb.ProcessingResponse(
        response_trailers=pb.TrailersResponse()
    ).SerializeToString(),
}
