"""ext_authz messages to core values and back (envoy.service.auth.v3, Envoy 1.40).

The field rules are the opposite of ext_proc's: only `value` is read here, `append` joins only
onto a header that exists, so several values are joined by us and replace what is there.
"""

from __future__ import annotations

import hashlib
import ssl
from typing import TYPE_CHECKING, TypeGuard
from urllib.parse import unquote

from google.protobuf.message import DecodeError

from extproc.adapters.messages import common_pb2, ext_authz_pb2
from extproc.adapters.wire import host_only, may_set
from extproc.adapters.wire_headers import address_only
from extproc.core.errors import PeerFault
from extproc.core.headers import Headers
from extproc.core.law import Side
from extproc.core.messages import Answer, BodyAnswer, Continue, Immediate, RequestHeaders
from extproc.core.values import Request, Response
from extproc.core.verdict import (
    CERTIFICATE_DIGEST_ATTRIBUTE,
    CERTIFICATE_SUBJECT_ATTRIBUTE,
    CERTIFICATE_URI_ATTRIBUTE,
    NAMESPACE,
    ROUTE_EXTENSION,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECK = "/envoy.service.auth.v3.Authorization/Check"

_SENDING = frozenset({"PATCH", "POST", "PUT"})
_OK = 0
_PERMISSION_DENIED = 7


def decode(data: bytes) -> tuple[RequestHeaders, bytes]:
    """Read one CheckRequest.

    Returns:
        The request as it would come over ext_proc, and its body (b"" if none was sent).

    Raises:
        PeerFault: the bytes aren't a CheckRequest, or it has no HTTP request.
    """
    try:
        message = ext_authz_pb2.CheckRequest.FromString(data)
    except DecodeError as error:
        raise PeerFault("the message is no CheckRequest") from error
    attributes = message.attributes
    http = attributes.request.http
    if not http.method:
        raise PeerFault("the check holds no HTTP request")
    headers = _headers(http)
    request = Request(
        method=http.method,
        scheme=http.scheme,
        host=host_only(http.host),
        target=http.path,
        headers=headers,
        request_id=headers.get("x-request-id") or http.id,
        attributes=_certificate(attributes.source),
        address=address_only(attributes.source.address.socket_address.address + ":"),
    )
    route_key = attributes.context_extensions.get(ROUTE_EXTENSION, "")
    body = http.raw_body or http.body.encode()
    cut = _is_cut(request, body)
    partial = frozenset({Side.REQUEST}) if cut else frozenset[Side]()
    return RequestHeaders(request, route_key, not (body or cut), partial), body


def _is_cut(request: Request, body: bytes) -> bool:
    """Say whether there may be more of a body than came.

    Envoy tells with each body it sends whether it is all, in place of what a client says of it.
    Where it wasn't told to send any, one without a length looks like none: it is taken for one
    where the method is for sending something, of which the length must be said then (RFC 9110
    section 8.6).
    """
    told = request.headers.get("x-envoy-auth-partial-body")
    if body or told is not None:
        return told == "true"
    length = request.headers.get("content-length")
    return request.method in _SENDING if length is None else length != "0"


def _certificate(peer: ext_authz_pb2.AttributeContext.Peer) -> dict[str, str]:
    """Return what ext_proc would tell of a client's certificate.

    `principal` is the first URI, else a DNS name or the subject; `certificate` is there with
    `include_peer_certificate` alone, as PEM, percent-encoded.
    """
    found: dict[str, str] = {}
    if peer.principal:
        is_uri = "://" in peer.principal
        name = CERTIFICATE_URI_ATTRIBUTE if is_uri else CERTIFICATE_SUBJECT_ATTRIBUTE
        found[name] = peer.principal
    if peer.certificate:
        try:
            data = ssl.PEM_cert_to_DER_cert(unquote(peer.certificate))
        except ValueError as error:
            raise PeerFault("the client's certificate can't be read") from error
        found[CERTIFICATE_DIGEST_ATTRIBUTE] = hashlib.sha256(data).hexdigest()
    return found


def _headers(http: ext_authz_pb2.AttributeContext.HttpRequest) -> Headers:
    raw = http.header_map.headers
    if raw:
        pairs = [(h.key, h.raw_value.decode("latin-1") or h.value) for h in raw]
    else:
        pairs = [(k, v.encode().decode("latin-1")) for k, v in http.headers.items()]
    return Headers((name, value) for name, value in pairs if not name.startswith(":"))


def encode(answer: Answer, hidden: Sequence[str] = (), target: str = "") -> bytes:
    """Write the CheckResponse of an answer to request headers.

    Args:
        answer: to a request's headers, or to its body.
        hidden: headers that came and don't go on, unless the answer sets them.
        target: of the request, as it came.
    """
    if isinstance(answer, Immediate):
        return _denied(answer.response)
    if not _carried(answer):
        return _denied(unsupported())
    left_out = _left_out(target, answer.target) if answer.target is not None else ()
    if left_out is None:
        return _denied(unsupported())
    message = ext_authz_pb2.CheckResponse(status=ext_authz_pb2.Status(code=_OK))
    ok = message.ok_response
    written = {name for name, _ in answer.changes.set} if answer.changes is not None else set()
    ok.headers_to_remove.extend(name for name in hidden if name not in written)
    ok.query_parameters_to_remove.extend(left_out)
    if answer.changes is not None:
        ok.headers_to_remove.extend(filter(may_set, answer.changes.remove))
        for name, values in answer.changes.set:
            if may_set(name):
                ok.headers.append(_option(name, values))
    message.ok_response.SetInParent()
    message.dynamic_metadata.update({NAMESPACE: {"verdict": answer.verdict}})
    return message.SerializeToString()


def _carried(answer: Answer) -> TypeGuard[Continue | BodyAnswer]:
    """Say whether ext_authz can do what the answer says of a body: nothing."""
    return (
        isinstance(answer, Continue | BodyAnswer)
        and answer.verdict is not None
        and answer.body is None
    )


def _left_out(came: str, goes: str) -> list[str] | None:
    """Return the query parameters that a target is without; None where it is another in more.

    Envoy takes off each parameter of a name, and compares names as they were sent.
    """
    (path, _, query), (new_path, _, new_query) = came.partition("?"), goes.partition("?")
    pairs, kept = ([pair for pair in text.split("&") if pair] for text in (query, new_query))
    names = {_name(pair) for pair in kept}
    if path != new_path or kept != [pair for pair in pairs if _name(pair) in names]:
        return None
    return list(dict.fromkeys(name for pair in pairs if (name := _name(pair)) not in names))


def _name(pair: str) -> str:
    return pair.partition("=")[0]


def unsupported() -> Response:
    """Return the answer for what ext_authz can't carry; closed, not silently left out."""
    response = Response.problem(
        500,
        "Not possible over ext_authz",
        "This route changes a body or a path; it needs ext_proc.",
        reason="needs_ext_proc",
    )
    response.bind("")
    return response


def _denied(response: Response) -> bytes:
    message = ext_authz_pb2.CheckResponse(status=ext_authz_pb2.Status(code=_PERMISSION_DENIED))
    denied = message.denied_response
    denied.status.code = response.status
    denied.body = (response.body or b"").decode(errors="replace")
    for name in response.headers:
        if may_set(name):
            denied.headers.append(_option(name, response.headers.get_all(name)))
    return message.SerializeToString()


def _option(name: str, values: Sequence[str]) -> common_pb2.HeaderValueOption:
    text = ", ".join(values).encode("latin-1").decode(errors="replace")
    return common_pb2.HeaderValueOption(header=common_pb2.HeaderValue(key=name, value=text))
