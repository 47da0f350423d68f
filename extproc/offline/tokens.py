"""A token signed by who has an issuer's private key, for trying things out."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from extproc.authentication.signing import NotASigningKey, SigningKey

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NotASigningKey", "signed"]


def signed(
    private: bytes, claims: Mapping[str, object], algorithm: str | None, key_id: str
) -> tuple[str, dict[str, str]]:
    """Sign claims.

    Args:
        private: the key, PEM or JWK.
        claims: of the token.
        algorithm: None for the key's usual one.
        key_id: empty for that of a JWK.

    Returns:
        The token and its header.

    Raises:
        NotASigningKey: the key can't sign so.
    """
    key = SigningKey.read(private, algorithm, key_id)
    text = key.sign(claims, {})
    header: dict[str, str] = json.loads(base64.urlsafe_b64decode(text.partition(".")[0] + "=="))
    return text, header
