"""The law of an exchange: which message may come when, and what may be answered then.

Source: `envoy.service.ext_proc.v3.external_processor.proto` (ProcessingRequest and
ProcessingResponse), and the state machine of Envoy's filter. The two sides are independent:
an upstream may answer before the request's body has ended, and a reply Envoy makes itself can
reach the response side of a stream that never saw a request.
"""

from __future__ import annotations

from enum import StrEnum

from extproc.core.errors import ExtprocError, PeerFault


class Side(StrEnum):
    """The two halves of an exchange."""

    REQUEST = "request"
    RESPONSE = "response"


class State(StrEnum):
    """Where a side stands."""

    IDLE = "nothing came yet"
    OPEN = "headers came, more follows"
    ENDED = "nothing more comes"


class Message(StrEnum):
    """What can come. `END` marks end_of_stream."""

    HEADERS = "headers"
    HEADERS_END = "headers with end of stream"
    PIECE = "body"
    PIECE_END = "body with end of stream"
    TRAILERS = "trailers"


class Reply(StrEnum):
    """What can be answered.

    CONTINUE may change headers; REPLACE also gives a body and ends the side; BODY may change
    the body (and, if it was buffered, headers); IMMEDIATE answers the client in place of the
    upstream; STREAMED does the same in pieces; GIVE_UP closes the stream cleanly, which lets
    the rest pass unseen.
    """

    CONTINUE = "continue"
    REPLACE = "continue and replace"
    BODY = "body"
    TRAILERS = "trailers"
    IMMEDIATE = "immediate response"
    STREAMED = "streamed immediate response"
    GIVE_UP = "clean close"


_S, _M, _R = State, Message, Reply
_ON_REQUEST_HEADERS = frozenset({_R.CONTINUE, _R.REPLACE, _R.IMMEDIATE, _R.STREAMED})
_ON_REQUEST_BODY = frozenset({_R.BODY, _R.IMMEDIATE})
_ON_REQUEST_TRAILERS = frozenset({_R.TRAILERS, _R.IMMEDIATE})
# GIVE_UP stands on the response side alone: before the verdict a clean close would let the
# request through (external_processor.proto, "Process"), so the request side never has it.
_ON_RESPONSE_HEADERS = frozenset({_R.CONTINUE, _R.REPLACE, _R.IMMEDIATE, _R.GIVE_UP})
_ON_RESPONSE_BODY = frozenset({_R.BODY, _R.IMMEDIATE, _R.GIVE_UP})
_ON_RESPONSE_TRAILERS = frozenset({_R.TRAILERS, _R.IMMEDIATE, _R.GIVE_UP})

LAW: dict[tuple[Side, State, Message], tuple[State, frozenset[Reply]]] = {
    (Side.REQUEST, _S.IDLE, _M.HEADERS): (_S.OPEN, _ON_REQUEST_HEADERS),
    (Side.REQUEST, _S.IDLE, _M.HEADERS_END): (_S.ENDED, _ON_REQUEST_HEADERS),
    (Side.REQUEST, _S.OPEN, _M.PIECE): (_S.OPEN, _ON_REQUEST_BODY),
    (Side.REQUEST, _S.OPEN, _M.PIECE_END): (_S.ENDED, _ON_REQUEST_BODY),
    (Side.REQUEST, _S.OPEN, _M.TRAILERS): (_S.ENDED, _ON_REQUEST_TRAILERS),
    (Side.RESPONSE, _S.IDLE, _M.HEADERS): (_S.OPEN, _ON_RESPONSE_HEADERS),
    (Side.RESPONSE, _S.IDLE, _M.HEADERS_END): (_S.ENDED, _ON_RESPONSE_HEADERS),
    (Side.RESPONSE, _S.OPEN, _M.PIECE): (_S.OPEN, _ON_RESPONSE_BODY),
    (Side.RESPONSE, _S.OPEN, _M.PIECE_END): (_S.ENDED, _ON_RESPONSE_BODY),
    (Side.RESPONSE, _S.OPEN, _M.TRAILERS): (_S.ENDED, _ON_RESPONSE_TRAILERS),
}

_NOTHING: frozenset[Reply] = frozenset()
# After these nothing more may come, on either side.
_FINAL = frozenset({Reply.IMMEDIATE, Reply.STREAMED, Reply.GIVE_UP})


class ReplyNotAllowed(ExtprocError):
    """This service was about to send a reply that the law forbids here; a defect of ours."""


class Law:
    """Follows one exchange and refuses what the table doesn't have."""

    request = State.IDLE
    response = State.IDLE
    over = False
    _allowed = _NOTHING
    _side = Side.REQUEST

    def came(self, side: Side, message: Message) -> None:
        """Record a message.

        Raises:
            PeerFault: it may not come now.
        """
        if self.over:
            raise PeerFault(f"{side} {message} came after the exchange was answered")
        state = self.request if side is Side.REQUEST else self.response
        entry = LAW.get((side, state, message))
        if entry is None:
            raise PeerFault(f"{side} {message} came when {state.value}")
        if side is Side.REQUEST:
            self.request, self._allowed = entry
        else:
            self.response, self._allowed = entry
        self._side = side

    def answered(self, reply: Reply) -> None:
        """Record the reply to the last message.

        Raises:
            ReplyNotAllowed: it may not be sent now.
        """
        if reply not in self._allowed:
            raise ReplyNotAllowed(f"{reply} is no answer on the {self._side} side now")
        self._allowed = _NOTHING
        if reply is Reply.CONTINUE:
            return
        if reply in _FINAL:
            self.over = True
        elif reply is Reply.REPLACE:
            if self._side is Side.REQUEST:
                self.request = State.ENDED
            else:
                self.response = State.ENDED
