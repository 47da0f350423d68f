"""What a token is for, by what it says itself: one made for another use is no access token.

Issuers sign ID tokens, refresh tokens and logout tokens with the keys of their access tokens, often
for the same audience, and answer questions about all of them (RFC 8725 section 3.11). There is no
one claim that tells them apart, so these are the ones by which well-known issuers and libraries do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.authentication.tokens import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

# RFC 9068 section 4, OpenID Connect Back-Channel Logout section 2.4, RFC 8417 section 2.3.
_TYPES = frozenset({"logout+jwt", "dpop+jwt", "secevent+jwt", "id_token+jwt"})
_ACCESS = "at+jwt"
_USES = {
    "token_use": frozenset({"id", "refresh", "id_token", "refresh_token"}),
    "token_type": frozenset({"id_token", "refresh", "refresh_token"}),
    "typ": frozenset({"id", "refresh", "offline", "logout"}),
    "type": frozenset({"refresh"}),
}
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"


def check_header(header: Mapping[str, Any], *, profile: bool) -> None:
    """Refuse a JWT whose `typ` says that it is for another use.

    Args:
        header: of the token.
        profile: whether it must say that it is an access token (RFC 9068 section 4).

    Raises:
        Refused: `typ`.
    """
    kind = str(header.get("typ", "JWT")).lower().removeprefix("application/")
    if kind in _TYPES or (profile and kind != _ACCESS):
        raise Refused("typ")


def check_claims(claims: Mapping[str, Any]) -> None:
    """Refuse what a token's claims, or its issuer, say is for another use.

    Raises:
        Refused: `typ`.
    """
    for name, others in _USES.items():
        said = claims.get(name)
        if isinstance(said, str) and said.lower() in others:
            raise Refused("typ")
    events = claims.get("events")
    if isinstance(events, dict) and _LOGOUT in events:
        raise Refused("typ")
