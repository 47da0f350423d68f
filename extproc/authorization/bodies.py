"""A request's body as policies may read it: JSON that the upstream can't read in another way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.core import strict_json
from extproc.core.strict_json import NotStrict

if TYPE_CHECKING:
    from extproc.core.values import Request

_CHARSETS = frozenset({"charset=utf-8", 'charset="utf-8"'})


class WrongBody(ValueError):
    """The body can't be judged.

    Attributes:
        status: 400, 413 or 415.
        reason: from the documented list.
    """

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


def body_of(request: Request, body: bytes) -> Any:
    """Return the value of a request's body; None where there is none.

    Raises:
        WrongBody: it isn't JSON, isn't said to be JSON, or is encoded or cut.
    """
    headers = request.headers
    # ext_authz tells of a body that was cut, and leaves out one it wasn't told to send.
    cut = headers.get("x-envoy-auth-partial-body") == "true"
    if cut or (not body and (headers.get("content-length") or "0") != "0"):
        raise WrongBody(413, "body_cut", "The body is larger than what is judged.")
    if not body:
        return None
    if not _says_json(headers.get_all("content-type")):
        raise WrongBody(415, "body_type", "The content type isn't JSON in UTF-8.")
    if any(value.lower() != "identity" for value in headers.get_all("content-encoding")):
        raise WrongBody(415, "body_type", "An encoded body can't be judged.")
    try:
        return strict_json.read(body, fold=True)
    except NotStrict as error:
        raise WrongBody(400, "malformed_body", f"The body can't be judged: {error}.") from error


def _says_json(values: list[str]) -> bool:
    """Say whether there is one media type, which is JSON (RFC 6839 section 3.1), in UTF-8."""
    if len(values) != 1 or "," in values[0]:
        return False
    kind, *parameters = (part.strip().lower() for part in values[0].split(";"))
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    return is_json and all(
        parameter in _CHARSETS or not parameter.startswith("charset") for parameter in parameters
    )
