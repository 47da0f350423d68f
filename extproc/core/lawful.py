"""What messages and answers are in the terms of the law."""

from __future__ import annotations

from extproc.core.law import Message, Reply, Side
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

_REPLIES: dict[type, Reply] = {
    BodyAnswer: Reply.BODY,
    TrailersAnswer: Reply.TRAILERS,
    GiveUp: Reply.GIVE_UP,
}


def message_of(event: Event) -> tuple[Side, Message]:
    """Return what came, and of which side."""
    match event:
        case RequestHeaders(end=end):
            return Side.REQUEST, Message.HEADERS_END if end else Message.HEADERS
        case ResponseHeaders(end=end):
            return Side.RESPONSE, Message.HEADERS_END if end else Message.HEADERS
        case Body(side=side, end=end):
            return side, Message.PIECE_END if end else Message.PIECE
        case Trailers(side=side):
            return side, Message.TRAILERS


def reply_of(answer: Answer) -> Reply:
    """Return which reply an answer is."""
    if isinstance(answer, Continue):
        return Reply.CONTINUE if answer.body is None else Reply.REPLACE
    if isinstance(answer, Immediate):
        return Reply.STREAMED if answer.streamed else Reply.IMMEDIATE
    return _REPLIES[type(answer)]
