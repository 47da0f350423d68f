"""D: what a client can do with HTTP/2, gRPC and many names, at the listener of a gateway."""

from __future__ import annotations

import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self

import pytest

from extproc.adapters.http2 import frames
from extproc.adapters.http2.fields import literal
from extproc.adapters.http2.frames import Flag, Kind, frame
from tests.attacks.minting import token
from tests.attacks.place import Place, bearer, quiet
from tests.attacks.wire import Upstream, running
from tests.http2.peers import BLOCK, REQUEST, data, headers, ping
from tests.http2.test_violations import BEGINNINGS, BY_STREAM, FATAL, setting
from tests.support.places import free_port
from tests.support.processes import Gateway, envoy, gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attacks.place import Seen

ROUTES = """
upstreams: {{u: {{endpoints: ['http://127.0.0.1:{upstream}']}}}}
decisions: {{file: records.jsonl}}
policies:
  admin:
    rules:
      - {{name: admin, deny: 'request.path.startsWith("/shop.Admin/")'}}
      - {{name: rest, allow: 'true'}}
routes:
  - {{name: any, match: {{path: /*}}, upstream: u, authentication: none, authorization: admin}}
"""
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MANAGER = (
    "type.googleapis.com/"
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_SECONDS = 15.0
_END = b"the end "


def bare(port: int, upstream: int) -> dict[str, Any]:
    """Return an Envoy that only forwards, with its own defaults."""

    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "u"}}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
    }
    filters = [{"name": "http", "typed_config": manager}]
    endpoint = {"endpoint": {"address": at(upstream)}}
    cluster = {
        "name": "u",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": "u",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    return {
        "static_resources": {
            "listeners": [{"address": at(port), "filter_chains": [{"filters": filters}]}],
            "clusters": [cluster],
        }
    }


@dataclass(frozen=True, slots=True)
class Sides:
    """The gateway's listener, and that of an Envoy which only forwards."""

    gateway: Gateway
    bare: int
    upstream: Upstream


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    """Run both."""
    upstream, port = Upstream(), free_port()
    with ExitStack() as stack:
        stack.enter_context(running(upstream))
        text = ROUTES.format(upstream=upstream.port)
        place = stack.enter_context(gateway(text))
        stack.enter_context(envoy(bare(port, upstream.port), port))
        yield Sides(place, port, upstream)
        quiet(place.said())


@dataclass(slots=True)
class Heard:
    """What a server said on one connection.

    Attributes:
        ended: the code of its GOAWAY, -1 where it closed without one; None while it goes on.
        resets: by stream, with their codes.
        answered: streams with an answer.
    """

    ended: int | None = None
    resets: dict[int, int] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """Take a frame."""
        if kind == Kind.GOAWAY:
            self.ended = int.from_bytes(payload[4:8], "big")
        elif kind == Kind.RST_STREAM:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == Kind.HEADERS:
            self.answered.add(stream)


class Raw:
    """A connection of frames by hand."""

    def __init__(self, port: int, hello: bytes | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._buffer = b""
        self.heard = Heard()
        self.send(frames.PREFACE + frames.settings({}) if hello is None else hello)
        if hello is None:
            self.until(lambda kind, flags, _: kind == Kind.SETTINGS and not flags & Flag.ACK)
            self.send(frames.SETTINGS_ACK)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_raised: object) -> None:
        """Close it."""
        self._socket.close()

    def send(self, sent: bytes) -> None:
        """Send; who has been told to go may find that nobody listens."""
        with suppress(ConnectionError):
            self._socket.sendall(sent)

    def until(self, enough: Callable[[int, int, bytes], bool]) -> bool:
        """Hear frames until one is enough; false where the connection ended before."""
        while self.heard.ended is None:
            if len(self._buffer) >= frames.HEADER_SIZE:
                word, flags, stream = frames.HEADER.unpack_from(self._buffer)
                whole = frames.HEADER_SIZE + (word >> 8)
                if len(self._buffer) >= whole:
                    payload = self._buffer[frames.HEADER_SIZE : whole]
                    self._buffer = self._buffer[whole:]
                    self.heard.take(word & 255, stream, payload)
                    if enough(word & 255, flags, payload):
                        return True
                    continue
            try:
                came = self._socket.recv(65_536)
            except ConnectionError:
                came = b""
            if not came:
                self.heard.ended = -1
            self._buffer += came
        return False

    def all_said(self) -> Heard:
        """Return what it said to all that was sent: the second answer comes after all of that."""
        for _ in range(2):
            self.send(ping(_END))
            if not self.until(
                lambda kind, flags, payload: (kind, flags & 1, payload) == (Kind.PING, 1, _END)
            ):
                break
        return self.heard


def said_to(
    port: int, sent: bytes, hello: bytes | None = None
) -> tuple[int | None, dict[int, int]]:
    """Return how a connection or its streams ended by what was sent."""
    with Raw(port, hello) as raw:
        raw.send(sent)
        heard = raw.all_said()
        return heard.ended, {} if heard.ended is not None else heard.resets


# RFC 9113 by section; what a server of our own does about each is in tests/http2.
WELL_FORMED = {
    "5.5 unknown frame": frame(0x77, 0xFF, 0, b"x"),
    "6.5.2 unknown setting": setting(0x99, 7),
    "6.2 padding and priority": headers(
        1, block=b"\x03" + b"\0\0\0\0\0" + BLOCK + b"pad", flags=Flag.PADDED | Flag.PRIORITY
    ),
    "5.3.1 a stream that depends on itself": headers(
        1, block=b"\0\0\0\1\0" + BLOCK, flags=Flag.PRIORITY
    ),
    "6.9 data beyond the window": headers(1) + data(1, b"x" * 16_000) * 4,
    "a whole request": headers(1, end=True),
}
# By what is sent after the beginning, and the beginning where that isn't a usual one.
CONVERSATIONS: dict[str, tuple[bytes, bytes | None]] = {
    name: (sent, None)
    for name, sent in [
        *((name, sent) for name, (sent, _) in (FATAL | BY_STREAM).items()),
        *WELL_FORMED.items(),
    ]
}


CONVERSATIONS |= {
    name: (b"", sent + b"\r\n\r\n")  # so that a line is whole, where it is taken for one
    for name, (sent, _) in BEGINNINGS.items()
    if not sent.startswith(b"GET")  # another protocol
}
End = tuple[int | None, dict[int, int]]


@pytest.fixture(scope="module")
def ends(sides: Sides) -> dict[str, tuple[End, End]]:
    """Return how each conversation ended, with the gateway and with the other Envoy."""

    def ended(name: str, port: int) -> End:
        return said_to(port, *CONVERSATIONS[name])

    with ThreadPoolExecutor(16) as threads:
        ours, bares = (
            threads.map(ended, CONVERSATIONS, repeat(port))
            for port in (sides.gateway.port, sides.bare)
        )
        return dict(zip(CONVERSATIONS, zip(ours, bares, strict=True), strict=True))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_D6_the_listener_ends_what_envoy_ends(ends: dict[str, tuple[End, End]], name: str) -> None:
    """D6: what stands behind it makes no conversation end in another way, or go on."""
    ours, of_envoy = ends[name]
    assert ours == of_envoy


def test_D6_the_control(ends: dict[str, tuple[End, End]]) -> None:
    """D6: conversations do end in several ways, and some go on."""
    ours = {name: end for name, (end, _) in ends.items()}
    assert ours["a whole request"] == ours["5.5 unknown frame"] == (None, {})
    assert ours["6.7 PING size"] == (6, {})
    assert len({ended for ended, _ in ours.values()}) > 4
    assert any(resets for _, resets in ours.values())


def _rapid_reset(raw: Raw) -> None:
    for stream in range(1, 20_001, 2):
        raw.send(
            headers(stream, end=True) + frame(Kind.RST_STREAM, 0, stream, struct.pack(">L", 8))
        )


def _made_you_reset(raw: Raw) -> None:
    for stream in range(1, 20_001, 2):
        zero = frame(Kind.WINDOW_UPDATE, 0, stream, bytes(4))
        raw.send(headers(stream, end=True) + zero)


def _continuations(raw: Raw) -> None:
    raw.send(frame(Kind.HEADERS, 0, 1, BLOCK))
    for number in range(2_000):
        field_ = literal([(b"x-%d" % number, b"y" * 1000)])
        raw.send(frame(Kind.CONTINUATION, 0, 1, field_))


def _empty_continuations(raw: Raw) -> None:
    raw.send(frame(Kind.HEADERS, 0, 1, BLOCK) + frame(Kind.CONTINUATION, 0, 1, b"") * 100_000)


def _settings(raw: Raw) -> None:
    raw.send(setting(3, 100) * 20_000)


def _pings(raw: Raw) -> None:
    raw.send(ping() * 50_000)


def _empty_data(raw: Raw) -> None:
    raw.send(headers(1) + data(1) * 50_000)


def _bomb(raw: Raw) -> None:
    """Name one field of 4,000 bytes, then ask for it by its place in the table, 15,000 times."""
    big = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"b" * 4000
    raw.send(headers(1, block=BLOCK[1:] + big, end=True))
    raw.send(headers(3, block=BLOCK[1:] + b"\xbe" * 15_000, end=True))


FLOODS = [
    _rapid_reset,
    _made_you_reset,
    _continuations,
    _empty_continuations,
    _settings,
    _pings,
    _empty_data,
    _bomb,
]


@pytest.mark.parametrize("flood", FLOODS)
def test_D1_floods_end_their_own_connection_alone(
    sides: Sides, flood: Callable[[Raw], None]
) -> None:
    """D1: it is ended, or comes to its end; others are served meanwhile, and the service lives."""
    place = sides.gateway
    workers = place.workers()
    with Raw(place.port) as raw:
        raw.send(b"")
        flood(raw)
        assert place.ask("/else", seconds=5).status == 200
        heard = raw.all_said()
        # Envoy may also keep up with what is cheap, and refuses a field section by its stream.
        assert heard.ended is not None or flood in {_pings, _settings, _empty_data, _bomb}
        assert heard.ended is not None or flood is not _bomb or 3 in heard.resets
    assert place.ask("/else", seconds=5).status == 200
    assert place.workers() == workers
    assert place.status()["workers"][0]["restarts"] == 0


def _called(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """Return the block of a gRPC call."""
    fields = [(name, path if name == b":path" else value) for name, value in REQUEST]
    return b"\x20" + literal([*fields, *more])


@pytest.mark.parametrize(
    "path",
    [
        b"/shop.Admin/Drop",
        b"shop.Admin/Drop",
        b"//shop.Admin/Drop",
        b"/shop.Admin//Drop",
        b"/./shop.Admin/Drop",
        b"/x/../shop.Admin/Drop",
        b"/shop.Admin%2fDrop",
        b"/shop%2eAdmin/Drop",
        b"/%73hop.Admin/Drop",
        b"/shop.Admin\\Drop",
        b"http://x/shop.Admin/Drop",
        b"*",
    ],
)
def test_D5_a_method_is_judged_as_it_is_called(sides: Sides, path: bytes) -> None:
    """D5: whatever reaches the upstream is no call of the service that nobody may call."""
    before = len(sides.upstream.received)
    with Raw(sides.gateway.port) as raw:
        raw.send(headers(1, block=_called(path)) + data(1, bytes(5), end=True))
        raw.until(lambda kind, _flags, _payload: kind in {Kind.HEADERS, Kind.RST_STREAM})
    for got in sides.upstream.received[before:]:
        plain = re.sub("%([0-9a-fA-F]{2})", lambda code: chr(int(code[1], 16)), got.path)
        assert "shop.Admin" not in plain.replace("\\", "/"), got.path


@pytest.mark.parametrize("timeout", [b"0n", b"1n", b"99999999H", b"100000000S", b"-1S", b"x"])
def test_D5_grpc_timeout(sides: Sides, timeout: bytes) -> None:
    """D5: however long a client would wait, it is told something, and others are served."""
    with Raw(sides.gateway.port) as raw:
        block = _called(b"/shop.Open/Get", (b"grpc-timeout", timeout))
        raw.send(headers(1, block=block) + data(1, bytes(5), end=True))
        assert raw.until(lambda kind, *_: kind in {Kind.HEADERS, Kind.RST_STREAM})
    assert sides.gateway.ask("/else").status == 200


def test_D5_huge_metadata(sides: Sides) -> None:
    """D5: 100 KB of it are refused before anybody reads them."""
    before = len(sides.upstream.received)
    block = _called(b"/shop.Open/Get", *[(b"x-%d" % n, b"v" * 1000) for n in range(100)])
    with Raw(sides.gateway.port) as raw:
        pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        raw.send(frame(Kind.HEADERS, Flag.END_STREAM, 1, pieces[0]))
        for piece in pieces[1:-1]:
            raw.send(frame(Kind.CONTINUATION, 0, 1, piece))
        raw.send(frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, pieces[-1]))
        raw.all_said()
    assert sides.gateway.ask("/else").status == 200
    assert [got.path for got in sides.upstream.received[before:]] == ["/else"]


def series(place: Place) -> dict[str, float]:
    """Return every series of `/metrics` with its value."""
    lines = [line for line in place.metrics().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def _many_names(place: Place, number: int) -> list[Seen]:
    name = f"n{number}"
    return [
        place.get(f"/public/{name}?{name}={name}"),
        place.get(f"/private/{name}", bearer(token(sub=name, jti=name, client_id=name))),
        place.get("/private/x", bearer(token(head={"kid": name}))),
        place.get("/private/x", bearer(token(iss=f"http://{name}.test"))),
        place.get("/private/x", bearer(token(aud=name))),
        place.get("/key/x", ("x-api-key", f"{name}.{'s' * 43}")),
        place.get("/roles/x", bearer(token()), ("x-role", f"admin,{name}")),
        place.get("/public/x", host=f"{name}.test"),
        place.get("/", host=f"{name}.test"),
        place.get(f"/anymethod/{name}", bearer(token()), method=f"M{name.upper()}"),
        place.get(f"/gone?to={name}"),
        place.get("/public/x", ("x-request-id", name), ("user-agent", name), (name, name)),
    ]


def test_D7_no_name_of_a_client_s_is_a_series(place: Place) -> None:
    """D7: of paths, subjects, key ids, hosts and methods there are as many as they like."""

    def counted() -> float:
        every = series(place).items()
        return sum(value for name, value in every if name.startswith("extproc_exchanges_total{"))

    for number in range(3):
        _many_names(place, number)
    before, count = counted(), 0
    until(lambda: counted() == counted() and counted() >= before, "the first are counted")
    known = set(series(place))
    for number in range(100, 130):
        seen = _many_names(place, number)
        count += sum(each.status not in {400, 404, 405} for each in seen)
    until(lambda: counted() >= before + count, "all are counted")
    assert set(series(place)) - known == set()
