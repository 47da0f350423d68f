"""A token issuer: discovery, keys that rotate, and tokens for whoever asks."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from examples.shop.serving import parser, serve

_SCOPES = {"alice": "orders:read orders:write", "bob": "orders:read"}
_SUSPENDED = {"carol"}
_LIFETIME = 3600


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and its id."""

    key_id: str
    private: rsa.RSAPrivateKey

    def public(self) -> dict[str, Any]:
        """Return the key's JWK."""
        text = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key())
        key: dict[str, Any] = json.loads(text)
        return key | {"kid": self.key_id, "use": "sig", "alg": "RS256"}


class Issuer:
    """Signs with the newest key; the one before it is still published."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)
        self._keys: list[SigningKey] = []
        self._add_key()

    def _add_key(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys = [SigningKey(f"key-{next(self._numbers)}", private), *self._keys[:1]]

    async def metadata(self, _request: web.Request) -> web.Response:
        """Return the discovery document."""
        return web.json_response(
            {
                "issuer": self._url,
                "jwks_uri": f"{self._url}/jwks.json",
                "token_endpoint": f"{self._url}/token",
            }
        )

    async def keys(self, _request: web.Request) -> web.Response:
        """Return the public keys."""
        return web.json_response({"keys": [key.public() for key in self._keys]})

    async def token(self, request: web.Request) -> web.Response:
        """Return a token for `user`; `raw=1` gives the token alone."""
        asked = dict(request.query) | {k: str(v) for k, v in (await request.post()).items()}
        text = self._signed(asked)
        if asked.get("raw"):
            return web.Response(text=text)
        return web.json_response(
            {"access_token": text, "token_type": "Bearer", "expires_in": _LIFETIME}
        )

    def _signed(self, asked: dict[str, str]) -> str:
        user, now = asked.get("user", "alice"), int(time.time())
        claims = {
            "iss": self._url,
            "sub": user,
            "aud": asked.get("audience", "shop"),
            "scope": asked.get("scope", _SCOPES.get(user, "")),
            "client_id": asked.get("client_id", "web"),
            "iat": now,
            "exp": now + int(asked.get("expires_in", str(_LIFETIME))),
            "jti": secrets.token_hex(8),
        }
        if user in _SUSPENDED:
            claims["suspended"] = True
        key = self._keys[0]
        headers = {"kid": key.key_id, "typ": "at+jwt"}
        return jwt.encode(claims, key.private, algorithm="RS256", headers=headers)

    async def rotate(self, _request: web.Request) -> web.Response:
        """Sign with a new key from now on."""
        self._add_key()
        return web.json_response({"keys": [key.key_id for key in self._keys]})


def application(port: int) -> web.Application:
    """Return the service."""
    issuer = Issuer(f"http://127.0.0.1:{port}")
    result = web.Application()
    result.router.add_get("/.well-known/openid-configuration", issuer.metadata)
    result.router.add_get("/jwks.json", issuer.keys)
    result.router.add_route("*", "/token", issuer.token)
    result.router.add_post("/rotate", issuer.rotate)
    return result


if __name__ == "__main__":
    serve(application, parser().parse_args().port)
