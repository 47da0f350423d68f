"""J29 to J33: key sets that are fetched, from issuers that misbehave in one way each."""

# ruff: noqa: E501 - a line of the gateway file below is one line; tests have their id

from __future__ import annotations

import asyncio
import gzip
import json
import os
import secrets
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPResponse
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.attacks.conftest import files
from tests.attacks.minting import b64, jwk, token
from tests.attacks.place import Place, allowed, bearer, denied, quiet
from tests.attacks.wire import Upstream, request, running
from tests.e2e.test_tls import certificate
from tests.support.client import ask
from tests.support.processes import gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COOLDOWN = 10.0  # seconds between two fetches
_SHORT = 1.0  # the same, of the issuer below
_SEVERAL = """
upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}
authentication:
  several:
    jwt: {{issuer: "http://several.test", audiences: [shop], jwks_uri: "{issuer}/several", cooldown: 1s}}
routes: [{{name: any, match: {{path: /*}}, upstream: echo, authentication: [several]}}]
"""
_PER_SECOND = 2000
_FLOOD = 30 * _PER_SECOND
_CONNECTIONS = 40
_MORE = 4 << 20  # bytes that a worker may hold more after a tenth of the flood
_GOOD = ("flood", "rotating", "crowd")


def keys(*names: str) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": [jwk(name) for name in names]}).encode()


def page(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer."""
    lines = (f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Issuer(socketserver.ThreadingTCPServer):
    """Serves a key set for each path, in the way that is set for it; counts who asks."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, secure: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Fetch)
        self.secure = secure
        self.ended = threading.Event()
        self.behave: dict[str, Callable[[Issuer, socket.socket], None]] = {}
        self.fetches: dict[str, list[float]] = {}

    def get_request(self) -> tuple[Any, Any]:
        """Accept, with TLS if asked to."""
        connection, address = super().get_request()
        if self.secure is not None:
            connection = self.secure.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away has seen enough."""

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.server_address[1]}"


class _Fetch(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        issuer = cast("Issuer", self.server)
        name = self.rfile.readline().decode().split(" ")[1].strip("/")
        while self.rfile.readline().strip():
            pass
        issuer.fetches.setdefault(name, []).append(time.monotonic())
        issuer.behave[name](issuer, self.request)


def serves(*names: str) -> Callable[[Issuer, socket.socket], None]:
    """Behave: answer with these keys."""
    return answers(page(keys(*names)))


def answers(data: bytes) -> Callable[[Issuer, socket.socket], None]:
    """Behave: answer with these bytes."""
    return lambda _, connection: connection.sendall(data)


def _resets(_: Issuer, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _never(issuer: Issuer, _: socket.socket) -> None:
    issuer.ended.wait(60)


def _drips(issuer: Issuer, connection: socket.socket) -> None:
    for byte in page(keys("rsa")):
        connection.sendall(bytes([byte]))
        if issuer.ended.wait(1):
            return


def _endless(_: Issuer, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + keys("rsa")[:-2] + b",")
    for _piece in range(50):
        connection.sendall(b" " * (1 << 20))
    connection.sendall(keys("rsa")[9:])


def _bomb() -> bytes:
    padded = keys("rsa")[:-1] + b" " * (50 << 20) + b"}"
    return page(gzip.compress(padded), "200 OK", "content-encoding: gzip")


def _redirect(to: str) -> bytes:
    return page(b"", "302 Found", f"location: {to}")


BAD: dict[str, Callable[[Issuer, socket.socket], None]] = {
    "status-500": answers(page(keys("rsa"), "500 Internal Server Error")),
    "html": answers(page(b"<html>ok</html>", "200 OK", "content-type: text/html")),
    "object": answers(page(b"{}")),
    "no-keys": answers(page(b'{"keys":[]}')),
    "truncated": answers(page(keys("rsa")[:-5])),
    "short": answers(page(keys("rsa")).replace(b"content-length: ", b"content-length: 9")),
    "redirect": lambda issuer, c: c.sendall(_redirect(f"{issuer.url}/stolen")),
    "elsewhere": answers(_redirect("http://169.254.169.254/latest/meta-data/")),
    "endless": _endless,
    "bomb": answers(_bomb()),
    "resets": _resets,
    "never": _never,
    "drips": _drips,
    "not-http": answers(b"\x16\x03\x01 no HTTP\r\n\r\n"),
}


@dataclass(slots=True)
class Issuers:
    """A gateway whose authenticators fetch their keys."""

    place: Place
    server: Issuer

    def ask(self, issuer: str, **options: Any) -> Any:
        """Ask with a token of an issuer."""
        return self.place.get("/private/x", bearer(token(iss=f"http://{issuer}.test", **options)))


def gateway_file(upstream: int, places: dict[str, str]) -> str:
    """Return a gateway file with one authenticator for each place of keys."""
    authentication = "".join(
        f"  {name}: {{jwt: {{issuer: 'http://{name}.test', audiences: [shop], jwks_uri: '{url}'}}}}\n"
        for name, url in places.items()
    )
    return f"""
upstreams: {{echo: {{endpoints: ["http://127.0.0.1:{upstream}"]}}}}
decisions: {{file: records.jsonl}}
identity:
  headers: {{x-user: "{{principal.subject}}", x-kind: "{{principal.kind}}"}}
  assertion: {{key: assertion.pem, ttl: 60s}}
authentication:
{authentication}
routes:
  - {{name: private, match: {{path: /private/*}}, upstream: echo, authentication: [{", ".join(places)}]}}
"""


@pytest.fixture(scope="module")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuers]:
    """Run issuers, good and bad, and a gateway that knows them all."""
    plain, secure = Issuer(), Issuer(_secure(tmp_path_factory.mktemp("tls")))
    plain.behave = {name: serves("rsa") for name in (*_GOOD, "stolen")} | BAD
    plain.behave |= {f"was-{name}": serves("rsa") for name in BAD}
    plain.behave["crowd"] = BAD["status-500"]
    secure.behave = {"other-name": serves("rsa")}
    urls = {name: f"{plain.url}/{name}" for name in plain.behave if name != "stolen"}
    urls["other-name"] = f"{secure.url}/other-name"
    upstream = Upstream()
    with ExitStack() as stack:
        for server in (plain, secure, upstream):
            stack.enter_context(running(server))
        stack.callback(plain.ended.set)
        text = gateway_file(upstream.port, urls)
        pem = {"assertion.pem": files()["assertion.pem"]}
        started = stack.enter_context(gateway(text, pem))
        yield Issuers(Place(started, upstream), plain)
        events = {event["event"] for event in quiet(started.said())}
        noted = {event for event in events if "work-in-progress" in event}  # by Envoy
        assert events - noted == {"starting", "serving", "keys not fetched"}


def _secure(folder: Path) -> ssl.SSLContext:
    for name, text in zip(("crt", "key"), certificate("elsewhere.example"), strict=True):
        (folder / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


@pytest.mark.parametrize("name", [*BAD, "other-name"])
def test_J32_keys_that_were_never_there(issuers: Issuers, name: str) -> None:
    """J32, J31: 503 with Retry-After for this issuer alone; others are served meanwhile."""
    until(lambda: allowed_now(issuers, "flood"), "the good issuer's keys")
    seen = issuers.ask(name)
    assert (seen.status, seen.answer.reason) == (503, "keys_missing"), seen
    assert int(str(seen.answer.header("retry-after"))) > 0
    assert not seen.received
    record = issuers.place.record(seen)
    assert (record["decision"], record["reason"]) == ("error", "keys_missing")
    allowed(issuers.place, issuers.ask("flood"), "alice")
    assert "stolen" not in issuers.server.fetches


def allowed_now(issuers: Issuers, name: str, **options: Any) -> bool:
    """Say whether a token of an issuer is accepted."""
    return bool(issuers.ask(name, **options).status == 200)


def test_J31_the_last_good_keys_stay(issuers: Issuers) -> None:
    """J31: whatever becomes of the issuer, who was good before is good after a failed fetch."""
    server = issuers.server
    names = [f"was-{name}" for name in BAD]
    for name in names:
        until(lambda name=name: allowed_now(issuers, name), f"{name} is good")  # type: ignore[misc]
        server.behave[name] = BAD[name.removeprefix("was-")]

    def asked_again() -> bool:
        waiting = [name for name in names if len(server.fetches[name]) < 2]
        for name in waiting:
            ask_and_forget(issuers, name)
        return not waiting

    until(asked_again, "each is asked again", 3 * _COOLDOWN)
    for name in names:
        allowed(issuers.place, issuers.ask(name), "alice")
    assert "stolen" not in server.fetches
    failed = [line for line in issuers.place.metrics().splitlines() if "key_fetches" in line]
    assert any('outcome="failed"' in line for line in failed), failed


def ask_and_forget(issuers: Issuers, name: str) -> None:
    """Send a token with an unknown key id, and don't wait for the answer."""
    text = token(head={"kid": secrets.token_hex(8)}, iss=f"http://{name}.test")
    with socket.create_connection(("127.0.0.1", issuers.place.port), 5) as connection:
        connection.sendall(request("/private/x", bearer(text)))
        connection.settimeout(0.2)
        try:
            connection.recv(1)
        except TimeoutError:
            return


def test_J30_rotation(issuers: Issuers) -> None:
    """J30: a new key is found by one fetch, and with it the old key is gone."""
    server, new = issuers.server, {"head": {"kid": "shared"}, "name": "shared"}
    until(lambda: allowed_now(issuers, "rotating"), "the first key")
    fetched = len(server.fetches["rotating"])
    server.behave["rotating"] = serves("shared")
    statuses: Counter[int] = Counter()

    def found() -> bool:
        statuses[issuers.ask("rotating", **new).status] += 1
        return statuses[200] > 0

    until(found, "the new key", 3 * _COOLDOWN)
    assert set(statuses) <= {200, 401}
    assert len(server.fetches["rotating"]) == fetched + 1
    denied(issuers.place, issuers.ask("rotating"), 401, "kid")


def test_J33_a_crowd_makes_one_fetch(issuers: Issuers) -> None:
    """J33: a hundred requests that wait for the keys of one issuer wait for one fetch."""
    server, release = issuers.server, threading.Event()

    def held(_: Issuer, connection: socket.socket) -> None:
        release.wait(4)
        connection.sendall(page(keys("rsa")))

    until(lambda: server.fetches.get("crowd"), "the fetch at the start, which fails")
    server.behave["crowd"] = held
    before = len(server.fetches["crowd"])

    def fetching() -> bool:
        ask_and_forget(issuers, "crowd")
        return len(server.fetches["crowd"]) > before

    until(fetching, "a fetch is held", 3 * _COOLDOWN)
    data = request("/private/x", bearer(token(iss="http://crowd.test")))
    with ExitStack() as stack:
        crowd = []
        for _ in range(100):
            address = ("127.0.0.1", issuers.place.port)
            crowd.append(stack.enter_context(socket.create_connection(address, 10)))
            crowd[-1].sendall(data)
        release.set()
        assert Counter(map(_status, crowd)) == {200: 100}
    assert len(server.fetches["crowd"]) == before + 1


def _status(connection: socket.socket) -> int:
    response = HTTPResponse(connection)
    response.begin()
    response.close()
    return response.status


def test_J29_J33_workers_fetch_once_for_all(issuers: Issuers) -> None:
    """J29, J33: three workers and tokens of unknown keys: one fetch per cooldown, from the start."""
    server = issuers.server
    server.behave["several"] = serves("rsa")
    text = _SEVERAL.format(issuer=server.url, echo=issuers.place.upstream.port)
    with gateway(text, workers=3) as running:
        good = dict([bearer(token(iss="http://several.test"))])
        until(lambda: running.ask("/", headers=good).status == 200, "keys are there")
        ends = time.monotonic() + 3 * _SHORT
        while time.monotonic() < ends:
            text = token(iss="http://several.test", head={"kid": secrets.token_hex(8)})
            assert running.ask("/", headers=dict([bearer(text)])).status == 401
            assert running.ask("/", headers=good).status == 200
        gaps = [after - before for before, after in pairwise(server.fetches["several"])]
        assert gaps
        assert all(gap > _SHORT - 0.2 for gap in gaps), gaps


@pytest.mark.alone
def test_J29_a_flood_of_unknown_key_ids(issuers: Issuers) -> None:
    """J29: at 2,000 a second for 30 s one fetch in each cooldown, good tokens served, memory flat."""
    server, admin = issuers.server, issuers.place.gateway.admin
    until(lambda: allowed_now(issuers, "flood"), "the issuer's keys")
    [worker] = ask(admin, "/status").json["workers"]
    bad, good = asyncio.run(_flood(issuers.place.port))
    assert bad == {401: _FLOOD}
    assert set(good) == {200}, good
    times = server.fetches["flood"]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(gap > _COOLDOWN - 1 for gap in gaps), gaps
    assert ask(admin, "/readyz").status == 200
    before = resident(worker["pid"])
    asyncio.run(_flood(issuers.place.port, _FLOOD // 10))
    assert resident(worker["pid"]) - before < _MORE


async def _flood(port: int, count: int = _FLOOD) -> tuple[Counter[int], Counter[int]]:
    """Ask so often, each time with another key id, and with a good token all the while."""
    good_token = token(iss="http://flood.test")
    rest = good_token.partition(".")[2]
    bad, good = Counter[int](), Counter[int]()
    left = iter(range(count))

    def unknown() -> bytes:
        head = json.dumps({"alg": "RS256", "kid": secrets.token_hex(8)}).encode()
        return request("/private/x", bearer(f"{b64(head)}.{rest}"))

    flooding = [
        asyncio.ensure_future(_paced(port, left, unknown, bad)) for _ in range(_CONNECTIONS)
    ]
    same = request("/private/x", bearer(good_token))
    served = asyncio.ensure_future(_paced(port, iter(int, 1), lambda: same, good))
    await asyncio.gather(*flooding)
    served.cancel()
    await asyncio.wait((served,))
    return bad, good


async def _paced(
    port: int, left: Iterator[int], made: Callable[[], bytes], statuses: Counter[int]
) -> None:
    """Ask on one connection, at most so often in a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        for _ in left:
            due += _CONNECTIONS / _PER_SECOND
            await asyncio.sleep(due - loop.time())
            writer.write(made())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, found, after = head.partition(b"content-length: ")
            await reader.readexactly(int(after.partition(b"\r\n")[0]) if found else 0)
            statuses[int(head.split(b" ", 2)[1])] += 1
    finally:
        writer.close()


def resident(pid: int) -> int:
    """Return the memory that a process holds, bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
