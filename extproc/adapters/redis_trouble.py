"""Why Redis can't be used: an operator mends a password elsewhere than a network."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, ResponseError

_SHOWN = 200  # characters


def refuses(error: BaseException) -> bool:
    """Say whether Redis answered with a refusal: of a password or a command, or as it is full."""
    return isinstance(error, (AuthenticationError, ResponseError))


def trouble(error: BaseException) -> str:
    """Say in one line what came of asking Redis."""
    if refuses(error):
        return f"Redis refuses: {str(error)[:_SHOWN]}"
    return f"Redis doesn't answer: {type(error).__name__}"
