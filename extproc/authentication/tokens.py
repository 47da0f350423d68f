"""A strict reading of JWTs (RFC 7515, 7519, 8725) before any library sees them.

Libraries accept what must not pass: duplicate members, padding, UTF-16 payloads, numbers as
text. Whatever isn't read here in exactly one way is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from extproc.core import strict_json
from extproc.core.strict_json import NotStrict

LONGEST_TOKEN = 8192
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")
_DEEPEST = 31
_MOST_BRACKETS = 1000


class Refused(Exception):
    """A credential isn't accepted; `reason` is from the documented list."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotReady(Exception):
    """A credential can't be judged now; the client may try again.

    Attributes:
        reason: from the documented list.
        detail: for the client.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read but not verified.

    Attributes:
        header: the JOSE header.
        claims: the payload.
        algorithm: `alg`, text.
        key_id: `kid`, empty if absent.
        issuer: `iss`; empty where it is absent or no text.
        signed: the bytes that the signature covers.
        signature: raw bytes.
    """

    header: dict[str, Any]
    claims: dict[str, Any]
    algorithm: str
    key_id: str
    issuer: str
    signed: bytes
    signature: bytes


def read(text: str) -> Token:
    """Read a compact JWS that names its issuer.

    Raises:
        Refused: `malformed`, `too_large`, `alg`, `crit` or `iss`.
    """
    token = read_any(text)
    if not isinstance(token.claims.get("iss"), str):
        raise Refused("iss")
    return token


def read_any(text: str) -> Token:
    """Read a compact JWS, also one without an issuer.

    Raises:
        Refused: `malformed`, `too_large`, `alg` or `crit`.
    """
    if len(text) > LONGEST_TOKEN:
        raise Refused("too_large")
    segments = text.split(".")
    if len(segments) != 3 or not all(map(_SEGMENT.match, segments[:2])):  # noqa: PLR2004 - RFC 7515 section 7.1
        raise Refused("malformed")
    header = json_object(_decoded(segments[0]))
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise Refused("alg")
    # No extension is understood, so any `crit` is refused (RFC 7515 section 4.1.11); `b64` and
    # encrypted or nested tokens change what the payload is.
    if not {"crit", "b64", "zip", "enc"}.isdisjoint(header):
        raise Refused("crit")
    if str(header.get("cty", "")).upper().endswith("JWT"):
        raise Refused("malformed")
    key_id = header.get("kid", "")
    if not isinstance(key_id, str):
        raise Refused("kid")
    claims = json_object(_decoded(segments[1]))
    issuer = claims.get("iss")
    return Token(
        header,
        claims,
        algorithm,
        key_id,
        issuer if isinstance(issuer, str) else "",
        f"{segments[0]}.{segments[1]}".encode(),
        _decoded(segments[2]),
    )


def canonical(members: dict[str, str]) -> str:
    """Write members in the one way of which a thumbprint is made (RFC 7638 section 3.3)."""
    return json.dumps(members, separators=(",", ":"), sort_keys=True)


def _decoded(segment: str) -> bytes:
    """Decode base64url without padding; unused bits must be zero, so that one text is one token."""
    if not _SEGMENT.match(segment):
        raise Refused("malformed")
    try:
        data = base64.b64decode(segment + "=" * (-len(segment) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise Refused("malformed") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode():
        raise Refused("malformed")
    return data


def json_object(data: bytes) -> dict[str, Any]:
    """Read one JSON object: UTF-8, no member twice, bounded depth, finite numbers.

    Raises:
        Refused: it is something else.
    """
    # Counted before anything is built: a token has no use for a thousand brackets.
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise Refused("malformed")
    try:
        value = strict_json.read(data, deepest=_DEEPEST)
    except NotStrict as error:
        raise Refused("malformed") from error
    if not isinstance(value, dict):
        raise Refused("malformed")
    return value


@dataclass(frozen=True, slots=True)
class Rules:
    """What claims must say.

    Attributes:
        issuer: exactly this `iss`.
        audiences: `aud` must hold one of these, exactly.
        leeway: seconds that clocks may differ.
        max_lifetime: seconds between now and `exp` at most.
        profile: whether only access tokens by RFC 9068 are accepted.
    """

    issuer: str
    audiences: frozenset[str]
    leeway: float
    max_lifetime: float
    profile: bool = False


# What an access token by RFC 9068 section 2.2 must have, beside what every token must.
_PROFILE = ("sub", "client_id", "jti")


def judge(claims: dict[str, Any], rules: Rules, now: float) -> float:
    """Check the registered claims (RFC 7519 section 4.1).

    A token is accepted while `now < exp + leeway`, and from `now >= nbf - leeway`.

    Args:
        claims: of a verified token.
        rules: what they must say.
        now: seconds since the epoch.

    Returns:
        Until when it is valid, seconds since the epoch, leeway included.

    Raises:
        Refused: `iss`, `aud`, `exp`, `nbf`, `iat`, `sub` or `profile`.
    """
    if claims.get("iss") != rules.issuer:
        raise Refused("iss")
    if rules.audiences.isdisjoint(audiences(claims.get("aud"))):
        raise Refused("aud")
    expires = moment(claims, "exp", "exp")
    if now >= expires + rules.leeway or expires - now > rules.max_lifetime + rules.leeway:
        raise Refused("exp")
    for name in ("nbf", "iat"):
        if name in claims and now < moment(claims, name, name) - rules.leeway:
            raise Refused(name)
    if not isinstance(claims.get("sub", ""), str):
        raise Refused("sub")
    if rules.profile and not ("iat" in claims and all(claims.get(name) for name in _PROFILE)):
        raise Refused("profile")
    return expires + rules.leeway


def audiences(value: Any) -> list[str]:
    """Return who a token is for (RFC 7519 section 4.1.3).

    Raises:
        Refused: `aud`.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise Refused("aud")


def moment(claims: dict[str, Any], name: str, reason: str) -> float:
    """Return a NumericDate (RFC 7519 section 2), seconds since the epoch.

    Raises:
        Refused: it is absent or something else; with the given reason.
    """
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(reason)
    return float(value)
