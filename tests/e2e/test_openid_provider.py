"""An OpenID provider that nobody here wrote: discovery, new keys, outage, return."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.client import ask
from tests.support.places import free_port
from tests.support.processes import Gateway, end, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

REST = """
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
authentication:
  login:
    jwt: {{issuer: "http://127.0.0.1:{provider}", audiences: [shop], discovery: true,
          refresh: 1s, cooldown: 500ms, max_stale: {stale}}}
identity: {{headers: {{x-user: "{{principal.subject}}"}}}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo, authentication: [login]}}]
"""


@contextmanager
def provider(port: int) -> Iterator[None]:
    """Run the provider; each process has a key of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _discovered(port), "the provider serves", 20)
        yield
    finally:
        end(process)


def _discovered(port: int) -> bool:
    try:
        return ask(port, "/.well-known/openid-configuration").status == 200
    except OSError:
        return False


def token(port: int, user: str = "alice@example.com") -> str:
    """Log in by the authorization code flow (RFC 6749 section 4.1); return the ID token.

    Its access tokens are opaque; an ID token is what this provider signs.
    """
    metadata = ask(port, "/.well-known/openid-configuration").json
    form = {"content-type": "application/x-www-form-urlencoded"}
    asked = {"client_id": "shop", "redirect_uri": "http://app/", "response_type": "code"}
    query = urlencode(asked | {"scope": "openid"})
    place = urlsplit(metadata["authorization_endpoint"]).path
    login = ask(
        port,
        f"{place}?{query}",
        method="POST",
        headers=form,
        body=urlencode({"sub": user}).encode(),
    )
    (code,) = parse_qs(urlsplit(login.headers["location"]).query)["code"]
    wanted = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://app/"}
    answer = ask(
        port,
        urlsplit(metadata["token_endpoint"]).path,
        method="POST",
        headers=form,
        body=urlencode(wanted | {"client_id": "shop", "client_secret": "any"}).encode(),
    )
    return str(json.loads(answer.body)["id_token"])


def bearer(text: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"authorization": f"Bearer {text}"}


@pytest.fixture
def port() -> int:
    """Return where the provider will be."""
    return free_port()


class Load:
    """Requests of one token, one after the other, until told to stop."""

    def __init__(self, place: Gateway, text: str) -> None:
        self.statuses: Counter[int] = Counter()
        self._place = place
        self._text = text
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._place.port, timeout=15)
        while not self._stop.is_set():
            connection.request("GET", "/", headers=bearer(self._text))
            response = connection.getresponse()
            response.read()
            self.statuses[response.status] += 1
        connection.close()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()


def test_J30_new_keys_under_load(echo: int, port: int) -> None:
    """The first token of a new key is accepted; then the old key's are not, and nothing is 5xx."""
    with gateway(REST.format(echo=echo, provider=port, stale="60s")) as place:
        with provider(port):
            old = token(port)
            accepted = place.ask("/", headers=bearer(old))
            assert (accepted.status, accepted.sent["x-user"]) == (200, "alice@example.com")
            with Load(place, old) as before:
                until(lambda: before.statuses[200] > 50, "some requests were answered")
            assert set(before.statuses) == {200}
        with provider(port):
            new = token(port, "bob@example.com")
            time_of_load = time.monotonic()
            with Load(place, old) as during:
                until(lambda: during.statuses[200] > 0 or during.statuses[401] > 0, "it began")
                assert place.ask("/", headers=bearer(new)).status == 200
                until(lambda: during.statuses[401] > 20, "the old key is gone")
            assert set(during.statuses) <= {200, 401}
            assert time.monotonic() - time_of_load < 30
            with Load(place, new) as after:
                until(lambda: after.statuses[200] > 50, "some requests were answered")
            assert set(after.statuses) == {200}


def test_J31_an_outage_longer_than_the_keys_live(echo: int, port: int) -> None:
    """Known tokens until `max_stale`, then 503 with Retry-After; good again after the return."""
    with gateway(REST.format(echo=echo, provider=port, stale="4s")) as place:
        with provider(port):
            text = token(port)
            assert place.ask("/", headers=bearer(text)).status == 200
        assert place.ask("/", headers=bearer(text)).status == 200
        until(lambda: place.ask("/", headers=bearer(text)).status == 503, "keys are too old", 20)
        away = place.ask("/", headers=bearer(text))
        assert (away.reason, away.headers["retry-after"]) == ("keys_missing", "5")
        with provider(port):
            again = token(port)
            until(lambda: place.ask("/", headers=bearer(again)).status == 200, "it is back")
            assert place.ask("/", headers=bearer(text)).status == 401


def test_J32_an_issuer_that_was_never_there(echo: int, port: int) -> None:
    """503 for its tokens until it comes; then good, without a restart."""
    with provider(port):
        text = token(port)
    with gateway(REST.format(echo=echo, provider=port, stale="60s")) as place:
        assert place.ask("/", headers=bearer(text)).status == 503
        assert place.ask("/").status == 401
        assert "login" in ask(place.admin, "/readyz").body.decode()
        with provider(port):
            fresh = token(port)
            until(lambda: place.ask("/", headers=bearer(fresh)).status == 200, "keys came")
            until(lambda: "login" not in ask(place.admin, "/readyz").body.decode(), "it says so")
