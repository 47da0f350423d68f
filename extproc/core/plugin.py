"""The contract between the host and a plugin."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from extproc.core.ports import Services
    from extproc.core.values import Outcome, Request, Response

    type_of_answer: TypeAlias = Response | Awaitable[Response | None] | None  # noqa: PYI042 - documented like this
    type_of_body_answer: TypeAlias = (  # noqa: PYI042 - as above
        bytes | Response | Awaitable[bytes | Response | None] | None
    )


@dataclass_transform(kw_only_default=True)
class Plugin:
    """A small class whose fields are its configuration and whose hooks are the phases.

    Overriding a hook is the declaration: what no plugin of a route overrides, Envoy doesn't
    send. Each hook may be `def` or `async def`; a `def` hook may also return an awaitable.
    Hooks return None to go on, or a `Response`; body hooks may return new bytes.

    `streaming = True` in the class gives body hooks each piece as it passes, instead of the
    whole body once. A whole-body hook is also called for a message without a body, with b"".
    """

    streaming: ClassVar[bool] = False
    # Response bodies are only watched, piece by piece, and only those that `on_response` didn't
    # release: the others don't come here at all, and every response keeps its content length.
    watching: ClassVar[bool] = False
    # The plugins behind this one see the request once its `on_request_body` let the body pass.
    judges_body: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Make the annotated fields the keyword arguments of the class."""
        super().__init_subclass__(**keywords)
        dataclasses.dataclass(kw_only=True, eq=False, repr=False)(cls)

    def on_start(self, services: Services) -> Awaitable[None] | None:
        """Prepare; once per worker and version of the gateway file."""

    def on_request(self, request: Request) -> type_of_answer:
        """See the request's headers; first to last."""

    def on_request_body(self, request: Request, body: bytes) -> type_of_body_answer:
        """See the request's body; first to last."""

    def on_response(self, request: Request, response: Response) -> type_of_answer:
        """See the response's status and headers; last to first."""

    def on_response_body(
        self, request: Request, response: Response, body: bytes
    ) -> type_of_body_answer:
        """See the response's body; last to first."""

    def on_finish(self, request: Request, outcome: Outcome) -> Awaitable[None] | None:
        """Clean up; always runs, also after failures and disconnects."""

    def on_stop(self) -> Awaitable[None] | None:
        """Give back what `on_start` took."""

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Say whether this class declares the hook."""
        return getattr(cls, hook) is not getattr(Plugin, hook)
