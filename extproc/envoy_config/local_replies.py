"""What the client reads when Envoy itself answers: problem+json, without touching our answers.

Answers the service makes carry response code details that begin with `extproc_`; a mapper that
isn't filtered would rewrite those too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLogFilter, ExtensionFilter
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.google.protobuf import Struct, Value

from extproc.envoy_config.shapes import packed

if TYPE_CHECKING:
    from collections.abc import Iterator

_CEL = "envoy.access_loggers.extension_filters.cel"
LOCAL_REPLY = "x-extproc-local-reply"
_PROBLEM = "application/problem+json"
_EXHAUSTED = 8  # what gRPC's own servers say of a message that is too large
_IS_GRPC = (
    "'content-type' in request.headers && "
    "request.headers['content-type'].startsWith('application/grpc')"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One kind of reply Envoy makes.

    Attributes:
        when: CEL over the reply.
        status: what the client gets.
        reason: `urn:extproc:<reason>`.
        title: for people.
        retry_after: whether trying again soon makes sense.
        grpc: the status of gRPC; None for the one that Envoy makes of the status.
    """

    when: str
    status: int
    reason: str
    title: str
    retry_after: bool = False
    grpc: int | None = None


def _details(prefix: str) -> str:
    return f"response.code_details.startsWith('{prefix}')"


# First match wins. The prefixes are Envoy's response code details.
REPLIES = (
    Reply(_details("rbac_access_denied"), 503, "no_verdict", "Service not ready", retry_after=True),
    Reply(
        _details("ext_proc_error_per-message_timeout"), 504, "service_deadline", "Deadline passed"
    ),
    Reply(_details("ext_proc"), 503, "service_down", "Service not ready", retry_after=True),
    # With what the gateway adds there are more headers than anybody may send: the client's, or the
    # upstream's where one has answered.
    Reply(
        _details("header_mutation_result_exceeds_limit") + " && has(upstream.address)",
        502,
        "upstream_too_large",
        "Upstream response headers too large",
    ),
    Reply(
        _details("header_mutation_result_exceeds_limit"),
        431,
        "headers_too_large",
        "Request headers too large",
    ),
    Reply("response.code == 404", 404, "no_route", "Not found"),
    Reply("response.code == 405", 405, "method_not_allowed", "Method not allowed"),
    Reply("response.code == 413", 413, "request_too_large", "Request too large", grpc=_EXHAUSTED),
    Reply("response.code == 431", 431, "headers_too_large", "Request headers too large"),
    Reply("response.code == 408", 408, "request_timeout", "Request took too long"),
    Reply("response.code == 426", 426, "upgrade_required", "Upgrade required"),
    Reply(
        "response.code == 503 && " + _details("upstream_reset_before_response_started{overflow"),
        503,
        "upstream_overload",
        "Upstream overloaded",
        retry_after=True,
    ),
    Reply(
        "response.code == 503 && " + _details("upstream_reset"),
        502,
        "upstream_failed",
        "Upstream failed",
    ),
    Reply(
        "response.code == 503 && " + _details("cluster_not_found"),
        503,
        "upstream_unknown",
        "Service not ready",
        retry_after=True,
    ),
    Reply(
        "response.code == 503",
        503,
        "upstream_unavailable",
        "Upstream unavailable",
        retry_after=True,
    ),
    Reply("response.code == 504", 504, "upstream_deadline", "Deadline passed"),
    Reply("response.code == 502", 502, "upstream_failed", "Upstream failed"),
    Reply(
        _details("response_payload_too_large"),
        502,
        "upstream_too_large",
        "Upstream response too large",
    ),
    # A transfer coding that nobody knows; the codec's only 501.
    Reply("response.code == 501", 400, "malformed", "Malformed request"),
    Reply("response.code >= 500", 500, "gateway_error", "Gateway error"),
    Reply("response.code >= 400", 400, "malformed", "Malformed request"),
)


def local_replies() -> LocalReplyConfig:
    """Return the mappers."""
    return LocalReplyConfig(mappers=[mapper for reply in REPLIES for mapper in _mappers(reply)])


def marked() -> LocalReplyConfig:
    """Return what tells the service which answers to its calls are Envoy's own, and why."""
    why = HeaderValue(key=LOCAL_REPLY, value="%RESPONSE_FLAGS%")
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(
                filter=_where("response.code >= 400"),
                headers_to_add=[HeaderValueOption(header=why)],
            )
        ]
    )


def _where(expression: str) -> AccessLogFilter:
    typed = packed(ExpressionFilter(expression=expression))
    return AccessLogFilter(extension_filter=ExtensionFilter(name=_CEL, typed_config=typed))


def _mappers(reply: Reply) -> Iterator[ResponseMapper]:
    expression = f"!{_details('extproc_')} && ({reply.when})"
    added = [_added("retry-after", "1")] if reply.retry_after else []
    if reply.grpc is not None:
        status = _added("grpc-status", str(reply.grpc))
        yield _mapper(reply, f"{_IS_GRPC} && {expression}", [*added, status])
    yield _mapper(reply, expression, added)


def _mapper(reply: Reply, expression: str, added: list[HeaderValueOption]) -> ResponseMapper:
    return ResponseMapper(
        filter=_where(expression),
        status_code=reply.status,
        body_format_override=SubstitutionFormatString(
            json_format=Struct(
                fields={
                    "type": Value(string_value=f"urn:extproc:{reply.reason}"),
                    "title": Value(string_value=reply.title),
                    "status": Value(number_value=float(reply.status)),
                    "detail": Value(string_value=""),
                    "instance": Value(string_value="%REQ(X-REQUEST-ID)%"),
                }
            ),
            content_type=_PROBLEM,
        ),
        headers_to_add=added,
    )


def _added(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(header=HeaderValue(key=name, value=value))
