"""Records of requests that never got the service's verdict: Envoy's access log, in the same shape.

Malformed requests, those that no route matches, and those that came while the service was down.
What the service judged it records itself: an allowed request carries the verdict as metadata, an
answer made by the service has response code details that begin with `extproc_` or, in the streamed
form, those that Envoy gives it.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, ExtensionFilter
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.google.protobuf import Struct, Value

from extproc.core.verdict import NAMESPACE
from extproc.envoy_config.shapes import packed

_CEL = "envoy.access_loggers.extension_filters.cel"
_UNJUDGED = (
    f"!('{NAMESPACE}' in metadata.filter_metadata)"
    f" && !response.code_details.startsWith('{NAMESPACE}_')"
    " && response.code_details != 'ext_proc_local_response'"
)
# A denial is the client's to change, an error isn't (RFC 9110 section 15.5 and 15.6).
_DECISIONS = {"deny": "response.code < 500", "error": "response.code >= 500"}
_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3f+00:00)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "host": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "status": "%RESPONSE_CODE%",
    "by": "envoy",
    "reason": "%RESPONSE_CODE_DETAILS%",
    "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
}


def access_logs(path: str) -> list[AccessLog]:
    """Return the loggers that write such records to a file."""
    return [_log(path, decision, when) for decision, when in _DECISIONS.items()]


def _log(path: str, decision: str, when: str) -> AccessLog:
    expression = ExpressionFilter(expression=f"{_UNJUDGED} && {when}")
    fields = _FIELDS | {"decision": decision}
    form = Struct(fields={name: Value(string_value=text) for name, text in fields.items()})
    return AccessLog(
        name="envoy.access_loggers.file",
        filter=AccessLogFilter(
            extension_filter=ExtensionFilter(name=_CEL, typed_config=packed(expression))
        ),
        typed_config=packed(
            FileAccessLog(path=path, log_format=SubstitutionFormatString(json_format=form))
        ),
    )
