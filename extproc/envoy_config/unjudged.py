"""Records of requests that never got the service's verdict: Envoy's access log, in the same shape.

Malformed requests, those that no route matches, and those that came while the service was down.
What the service judged it records itself: an allowed request carries the verdict as metadata, an
answer made by the service has response code details that begin with `extproc_` or, in the streamed
form, those that Envoy gives it.

They always go to Envoy's standard output: Envoy writes its buffer piece by piece and not line by
line, so a file that workers append to as well would get their lines in the middle of Envoy's.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    ExtensionFilter,
    MetadataFilter,
    OrFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeUInt32, SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    ValueMatcher,
    ValueMatcherNullMatch,
)
from envoy_data_plane.google.protobuf import Struct, Value

from extproc.core.verdict import NAMESPACE
from extproc.envoy_config.shapes import packed

_CEL = "envoy.access_loggers.extension_filters.cel"
# Details may be missing, as where a client resets what it has just sent; without `has` such an
# expression is an error, which is no record.
_UNJUDGED = (
    f"!('{NAMESPACE}' in metadata.filter_metadata)"
    f" && !(has(response.code_details) && (response.code_details.startsWith('{NAMESPACE}_')"
    " || response.code_details == 'ext_proc_local_response'))"
)
# A denial is the client's to change, an error isn't (RFC 9110 section 15.5 and 15.6). Where nothing
# was answered, since the client went away or broke the rules of HTTP/2, the status is 0. What Envoy
# answers well by itself, such as keys that are public, isn't a decision.
_NOTHING, _DENIAL, _ERROR = 0, 400, 500
_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3f+00:00)%",
    "request_id": "%REQ(X-REQUEST-ID):512%",
    "route": "%ROUTE_NAME%",
    "host": "%REQ(:AUTHORITY):512%",
    "method": "%REQ(:METHOD):512%",
    "path": "%PATH(NQ:ORIG_OR_PATH):512%",
    "status": "%RESPONSE_CODE%",
    "by": "envoy",
    "reason": "%RESPONSE_CODE_DETAILS%",
    "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
}


def access_logs() -> list[AccessLog]:
    """Return the loggers that write such records to standard output."""
    least, most = ComparisonFilterOp.GE, ComparisonFilterOp.LE
    answered = AndFilter(filters=[_status(least, _DENIAL), _status(most, _ERROR - 1)])
    denials = OrFilter(filters=[AccessLogFilter(and_filter=answered), _status(most, _NOTHING)])
    return [
        _log("deny", AccessLogFilter(or_filter=denials)),
        _log("error", _status(least, _ERROR)),
    ]


def _status(op: ComparisonFilterOp, status: int) -> AccessLogFilter:
    limit = RuntimeUInt32(default_value=status, runtime_key=f"{NAMESPACE}.unjudged.{status}")
    return AccessLogFilter(
        status_code_filter=StatusCodeFilter(comparison=ComparisonFilter(op=op, value=limit))
    )


def _log(decision: str, of_status: AccessLogFilter) -> AccessLog:
    # Asked about every request: first the number, which costs next to nothing, then whether there
    # is a verdict. The expression says that too and costs far more; few requests get there.
    nothing = ValueMatcher(null_match=ValueMatcherNullMatch())  # of any verdict that is there
    path = [MetadataMatcherPathSegment(key="verdict")]
    no_verdict = AccessLogFilter(
        metadata_filter=MetadataFilter(
            matcher=MetadataMatcher(filter=NAMESPACE, path=path, value=nothing),
            match_if_key_not_found=True,
        )
    )
    expression = packed(ExpressionFilter(expression=_UNJUDGED))
    unjudged = AccessLogFilter(extension_filter=ExtensionFilter(name=_CEL, typed_config=expression))
    fields = _FIELDS | {"decision": decision}
    form = Struct(fields={name: Value(string_value=text) for name, text in fields.items()})
    return AccessLog(
        name="envoy.access_loggers.stdout",
        filter=AccessLogFilter(and_filter=AndFilter(filters=[of_status, no_verdict, unjudged])),
        typed_config=packed(StdoutAccessLog(log_format=SubstitutionFormatString(json_format=form))),
    )
