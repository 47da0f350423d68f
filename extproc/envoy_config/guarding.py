"""Routes for a connection manager that isn't ours: it may leave paths as clients write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.route.v3 import RouteMatch

from extproc.envoy_config.routes import answered
from extproc.envoy_config.shapes import matching, plain

if TYPE_CHECKING:
    from extproc.envoy_config.shapes import Json

# Of letters, digits, `-`, `.`, `_` and `~`; of `/`, `\` and NUL.
_ESCAPES = "2[DdEeFf]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[CcFf]|7[Ee]|00"
_AMBIGUOUS = rf".*(?://|/\.{{1,2}}(?:[/;]|$)|\\|#|%(?:{_ESCAPES})).*"


def guarded(routes: Json) -> Json:
    """Return routes that refuse what has another normal form, whoever normalises.

    A path such as `/open/../admin` would take the route of `/open/*`, and an upstream that makes
    its normal form of it would answer as `/admin`. Where the connection manager normalises as the
    whole bootstrap does, nothing is left to refuse.
    """
    refusal = answered(plain(RouteMatch(safe_regex=matching(_AMBIGUOUS))), 400)
    hosts = [host | {"routes": [refusal, *host["routes"]]} for host in routes["virtual_hosts"]]
    return routes | {"virtual_hosts": hosts}
