"""Which responses have no content, whatever a plugin gives them (RFC 9110 section 6.4.1).

Envoy sends what it is given. A client takes what follows such a head for its next response.
"""

from __future__ import annotations

STATUSES = frozenset({204, 304})
"""Those that say that there is none."""


def is_without(method: str, status: int) -> bool:
    """Say whether a response to this method, with this status, is a head alone."""
    return method == "HEAD" or status in STATUSES
