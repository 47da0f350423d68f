"""Why Redis can't be used: an operator mends a password elsewhere than a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

_SHOWN = 200  # characters


class OutOfStep(RedisError):
    """What came is no answer to what was asked, so it may be one to something else."""


async def in_step(redis: Redis, command: Awaitable[Any], fits: Callable[[Any], bool]) -> Any:
    """Return the answer to a command.

    One that doesn't fit is another's, as behind a proxy that answers once too often, and so is each
    further one on that connection: it is closed.

    Raises:
        OutOfStep: it doesn't fit.
        RedisError, OSError: see the library.
    """
    try:
        answer = await command
    except (RedisError, OSError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001 - the library reads what it expects
        fault = OutOfStep()
        fault.__cause__ = error
    else:
        if fits(answer):
            return answer
        fault = OutOfStep()
    await redis.connection_pool.disconnect(inuse_connections=True)
    raise fault


def is_number(answer: object) -> bool:
    """Say whether an answer is a number, as of a command that counts."""
    return type(answer) is int


def refuses(error: BaseException) -> bool:
    """Say whether Redis answered with a refusal: of a password or a command, or as it is full."""
    return isinstance(error, (AuthenticationError, ResponseError))


def trouble(error: BaseException) -> str:
    """Say in one line what came of asking Redis."""
    if refuses(error):
        return f"Redis refuses: {str(error)[:_SHOWN]}"
    if isinstance(error, OutOfStep):
        return "Redis answers what wasn't asked"
    why = f": {error}" if str(error) else ""  # a certificate that isn't trusted, say
    return f"Redis doesn't answer: {type(error).__name__}{why[:_SHOWN]}"
