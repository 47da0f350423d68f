"""The connection against the `h2` library's client, which cuts and checks frames itself."""

from __future__ import annotations

import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.http2.connection import Connection
from extproc.adapters.http2.fields import literal
from extproc.adapters.http2.limits import Limits
from tests.http2.peers import Client, Echo, as_they_are


def together(limits: Limits | None = None) -> tuple[Client, Echo]:
    """Return both sides, connected."""
    client, server = Client(), Echo(Connection(as_they_are, limits or Limits(), 0.0))
    talk(client, server)
    return client, server


def talk(client: Client, server: Echo, size: int = 1 << 20) -> None:
    """Carry bytes to and fro, cut into pieces of one size, until nobody says more."""
    while True:
        sent = client.h2.data_to_send()
        pieces = [sent[at : at + size] for at in range(0, len(sent), size)] or [b""]
        said = b"".join(server.take(piece) for piece in pieces)
        for at in range(0, len(said), size):
            client.hear(said[at : at + size])
        if not sent and not said:
            return


@pytest.mark.parametrize("size", [1, 2, 7, 9, 100, 1 << 20])
def test_an_exchange_however_it_is_cut(size: int) -> None:
    """A request's body comes back, then trailers; nothing stays open."""
    client, server = together()
    stream = client.open(b"hello")
    talk(client, server, size)
    assert client.body(stream) == b"hello"
    [trailers] = client.saw(h2.events.TrailersReceived)
    assert trailers.headers == [(b"done", b"1")]
    assert client.saw(h2.events.StreamEnded)
    assert not server.connection.streams


def test_many_streams_interleaved() -> None:
    """Each gets its own answer."""
    client, server = together()
    streams = [client.open(None, end=False) for _ in range(100)]
    talk(client, server)
    for number, stream in enumerate(streams):
        client.send(stream, b"%d" % number, end=True)
    talk(client, server)
    assert [client.body(stream) for stream in streams] == [b"%d" % n for n in range(100)]


@pytest.mark.parametrize("size", [16_384, 16_385, 70_000, 5_000_000])
def test_bodies_beyond_every_window(size: int) -> None:
    """Both directions wait for credit and get it: frames, streams' and connection's windows."""
    client, server = together(Limits(stream_window=65_535, connection_window=100_000))
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    stream = client.open(None, end=False)
    rest = body
    while rest:
        rest = client.send(stream, rest, end=True)
        talk(client, server)
    assert client.body(stream) == body
    assert server.connection.out.unread == 0
    assert not server.connection.streams


def test_a_window_of_one_byte() -> None:
    """A peer may be that narrow; it gets its answer, byte by byte."""
    client, server = together()
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1})
    talk(client, server)
    stream = client.open(b"slowly")
    talk(client, server)
    assert client.body(stream) == b"slowly"
    assert all(len(event.data) <= 1 for event in client.saw(h2.events.DataReceived))


def test_settings_change_while_data_waits() -> None:
    """A window that shrinks below zero and grows again (RFC 9113 section 6.9.2)."""
    client, server = together()
    stream = client.open(None, end=False)
    talk(client, server)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    talk(client, server)
    client.send(stream, b"x" * 1000, end=True)
    talk(client, server)
    assert client.body(stream) == b""
    assert server.connection.out.unread == 1000
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 400})
    talk(client, server)
    assert client.body(stream) == b"x" * 1000
    assert client.saw(h2.events.TrailersReceived), "trailers come behind what waited"


def test_a_larger_frame_size_is_used() -> None:
    """SETTINGS_MAX_FRAME_SIZE of the peer bounds our frames, and they fill it."""
    client, server = together()
    client.h2.update_settings(
        {
            h2.settings.SettingCodes.MAX_FRAME_SIZE: 100_000,
            h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000,
        }
    )
    client.h2.increment_flow_control_window(1_000_000)
    talk(client, server)
    stream = client.open(None, end=False)
    talk(client, server)
    server.connection.send(server.connection.streams[stream], None, b"x" * 150_000, 0.0)
    client.hear(server.connection.out.take())
    sizes = [len(event.data) for event in client.saw(h2.events.DataReceived)]
    assert sizes[-2:] == [100_000, 50_000]


@pytest.mark.parametrize("size", [0, 1024])
def test_a_header_table_that_shrinks(size: int) -> None:
    """The library ends the connection unless the next block says so, and only that one must."""
    client, server = together()
    before = client.open(None, end=False)
    talk(client, server)
    client.h2.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size})
    talk(client, server)
    client.send(before, b"a", end=True)
    streams = [before, *(client.open(b"a") for _ in range(3))]
    talk(client, server)
    assert [client.body(stream) for stream in streams] == [b"a"] * 4


def test_ping_is_answered() -> None:
    """With the same eight bytes."""
    client, server = together()
    client.h2.ping(b"abcdefgh")
    talk(client, server)
    assert client.saw(h2.events.PingAckReceived)[0].ping_data == b"abcdefgh"


def test_a_reset_ends_one_stream_alone() -> None:
    """The others go on."""
    client, server = together()
    gone, stays = client.open(None, end=False), client.open(None, end=False)
    talk(client, server)
    client.h2.reset_stream(gone, h2.errors.ErrorCodes.CANCEL)
    client.send(stays, b"still here", end=True)
    talk(client, server)
    assert client.body(stays) == b"still here"
    assert not server.connection.streams


def test_trailers_end_a_request() -> None:
    """A client's trailers are an end, and nothing more."""
    client, server = together()
    stream = client.open(b"x", end=False)
    client.h2.send_headers(stream, [(b"checksum", b"1")], end_stream=True)
    talk(client, server)
    assert client.saw(h2.events.StreamEnded)
    assert not server.connection.streams


def test_an_early_end_tells_the_peer_to_stop() -> None:
    """A complete response before the request's end is followed by RST_STREAM(NO_ERROR)."""
    client, server = together()
    stream = client.open(None, end=False)
    talk(client, server)
    server.connection.end(server.connection.streams[stream], literal([(b"done", b"1")]))
    client.hear(server.connection.out.take())
    assert client.saw(h2.events.StreamEnded)
    assert client.saw(h2.events.StreamReset)[0].error_code == h2.errors.ErrorCodes.NO_ERROR
    assert not server.connection.streams


@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 5000), st.integers(600, 70_000))
def test_any_bodies_any_cut_any_window(sizes: list[int], piece: int, window: int) -> None:
    """Whatever the sizes, each body comes back whole, and nothing is left."""
    client, server = together(Limits(stream_window=70_000, connection_window=200_000))
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    talk(client, server, piece)
    streams = [client.open(b"b" * size) for size in sizes]
    talk(client, server, piece)
    assert [len(client.body(stream)) for stream in streams] == sizes
    assert not server.connection.streams
    assert server.connection.out.unread == 0
