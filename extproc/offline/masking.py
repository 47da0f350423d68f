"""Taking credentials out of everything that is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from extproc.expressions.inputs import SECRET_HEADERS, SECRET_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from extproc.config.schema import Gateway
    from extproc.offline.raw import Message

HIDDEN = "***"
_SHORTEST = 6  # shorter ones stand in too much else to be found by their text


@dataclass(frozen=True, slots=True)
class Places:
    """Where credentials are.

    Attributes:
        headers: names, in lower case.
        parameters: of the query.
    """

    headers: frozenset[str]
    parameters: frozenset[str]

    @classmethod
    def of(cls, gateway: Gateway) -> Places:
        """Return where the authenticators of a gateway file look, and where others might."""
        models = gateway.authentication.values()
        headers = {name for model in models for name in model.headers}
        queries = {model.jwt.query for model in models if model.jwt and model.jwt.query}
        return cls(SECRET_HEADERS | headers, SECRET_PARAMETERS | queries)


class Mask:
    """Hides the credentials of one request, wherever their text turns up.

    Args:
        places: where credentials are.
        message: the request; None for one that couldn't be read.
    """

    def __init__(self, places: Places, message: Message | None) -> None:
        self._places = places
        found = _secrets(places, message) if message is not None else ()
        self._secrets = sorted({s for s in found if len(s) >= _SHORTEST}, key=len, reverse=True)

    def header(self, name: str, value: str) -> str:
        """Return a header's value as it may be shown; a scheme's name stays."""
        if name not in self._places.headers:
            return self.text(value)
        scheme, blank, _ = value.partition(" ")
        return f"{scheme} {HIDDEN}" if blank and name.endswith("authorization") else HIDDEN

    def text(self, text: str) -> str:
        """Return a text as it may be shown."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def everywhere(self, value: object) -> object:
        """Return plain values with every text as it may be shown."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(k)): self.everywhere(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


def _secrets(places: Places, message: Message) -> Iterator[str]:
    for name, value in message.fields:
        if name == "cookie":
            yield from (crumb.partition("=")[2].strip() for crumb in value.split(";"))
        elif name in places.headers:
            yield value
            yield value.partition(" ")[2]
            yield from value.split(".") if value.count(".") == 2 else ()  # noqa: PLR2004 - a JWT's parts
    yield from _parameters(places, message.target.partition("?")[2])


def _parameters(places: Places, query: str) -> Iterable[str]:
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if unquote_plus(name).lower() in places.parameters:
            yield value
            yield unquote_plus(value)
