"""ext_proc and ext_authz messages: what we read, and exactly what we write."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters import wire, wire_authz
from extproc.adapters.messages import common_pb2, ext_authz_pb2, received_pb2
from extproc.adapters.messages import ext_proc_pb2 as pb
from extproc.adapters.wire import (
    _host_again,
    _same_for_many,
    decode,
    encode,
    host_only,
    may_set,
    override_timeout,
)
from extproc.adapters.wire_headers import address_only
from extproc.core.errors import PeerFault
from extproc.core.headers import Changes, Headers
from extproc.core.law import Side
from extproc.core.messages import (
    BodyAnswer,
    Continue,
    GiveUp,
    Immediate,
    RequestHeaders,
    ResponseHeaders,
    TrailersAnswer,
)
from extproc.core.values import Response, is_host
from extproc.core.verdict import ADDRESS_ATTRIBUTE, ROUTE_ATTRIBUTE


def request(
    *pairs: tuple[str, bytes], end: bool = True, attributes: dict[str, str] | None = None
) -> bytes:
    """Return a ProcessingRequest with request headers."""
    message = pb.ProcessingRequest()
    message.request_headers.end_of_stream = end
    for key, value in pairs:
        message.request_headers.headers.headers.add(key=key, raw_value=value)
    message.attributes["envoy.filters.http.ext_proc"].update(attributes or {})
    return message.SerializeToString()


def written(answer: object) -> pb.ProcessingResponse:
    """Return the one message of an answer."""
    (data,) = encode(answer)  # type: ignore[arg-type]
    return pb.ProcessingResponse.FromString(data)


def test_a_request_is_read() -> None:
    """Pseudo headers and attributes become fields; bytes become text one to one."""
    data = request(
        (":method", b"GET"),
        (":path", b"/a?b=1"),
        (":authority", b"Shop.Example:8080"),
        ("x-bytes", b"\xff\x00"[:1]),
        ("x-request-id", b"id-1"),
        attributes={ADDRESS_ATTRIBUTE: "192.0.2.7:1234", ROUTE_ATTRIBUTE: "r@v"},
    )
    event = decode(data)
    assert isinstance(event, RequestHeaders)
    assert (event.request.method, event.request.target, event.request.host) == (
        "GET",
        "/a?b=1",
        "shop.example",
    )
    assert (event.request.address, event.route_key, event.request.id) == (
        "192.0.2.7",
        "r@v",
        "id-1",
    )
    assert event.request.headers["x-bytes"] == "\xff"
    assert event.end


@given(st.binary(max_size=64))
def test_any_bytes_are_an_event_or_the_declared_error(data: bytes) -> None:
    """F5: a peer can't make the codec raise anything else."""
    with contextlib.suppress(PeerFault):
        decode(data)
    with contextlib.suppress(PeerFault):
        wire_authz.decode(data)


HEADER_BYTES = st.one_of(
    st.binary(max_size=12),
    st.builds(
        lambda key, value, cut: common_pb2.HeaderValue(
            key=key, raw_value=value
        ).SerializeToString()[:cut],
        st.sampled_from(["", "a", ":path", "x-request-id", "n" * 127, "n" * 128, "n" * 7500]),
        st.binary(max_size=200),
        st.integers(0, 8000),
    ),
)


def header_map(raw: list[bytes]) -> bytes:
    """Return headers as Envoy sends them."""
    return received_pb2.ReceivedHeaderMap(headers=raw).SerializeToString()


def header(name: str, value: bytes) -> bytes:
    """Return one header as Envoy sends it."""
    return common_pb2.HeaderValue(key=name, raw_value=value).SerializeToString()


NAMES = st.sampled_from([":path", ":method", "a", "x-request-id", "authorization", "n" * 126])
NESTING = st.recursive(
    st.binary(max_size=4) | st.sampled_from([b"v" * 126, b"v" * 127, b"v" * 128, b"v" * 17_000]),
    lambda inside: st.builds(header, NAMES, inside) | st.builds(bytes.__add__, inside, inside),
    max_leaves=4,
)


@given(st.lists(st.tuples(NAMES, NESTING), max_size=7))
def test_J27_a_value_that_looks_like_a_header_is_none(pairs: list[tuple[str, bytes]]) -> None:
    """J27: what is sought by its bytes counts where a header begins, and nowhere else."""
    message = received_pb2.ReceivedRequest()
    message.request_headers.headers = header_map([header(*pair) for pair in pairs])
    event = decode(message.SerializeToString())
    assert isinstance(event, RequestHeaders)
    for name in ("a", "x-request-id", "authorization", "n" * 126):
        values = [value.decode("latin-1") for key, value in pairs if key == name]
        assert event.request.headers.get_all(name) == values


@given(st.lists(HEADER_BYTES, max_size=5), st.lists(st.binary(max_size=12), max_size=2))
def test_any_header_bytes_are_read_as_the_library_reads_them(
    raw: list[bytes], attributes: list[bytes]
) -> None:
    """Late, but to the same pairs; what the library refuses is the declared error."""
    message = received_pb2.ReceivedRequest(attributes=attributes)
    message.request_headers.headers = header_map(raw)
    try:
        event = decode(message.SerializeToString())
        assert isinstance(event, RequestHeaders)
        pairs = list(event.request.headers.items())
    except PeerFault:
        return
    whole = pb.ProcessingRequest.FromString(message.SerializeToString())
    headers = [(h.key, h.raw_value.decode("latin-1") or h.value) for h in raw_headers(whole)]
    expected = Headers([pair for pair in headers if not pair[0].startswith(":")])
    assert pairs == list(expected.items())


def raw_headers(message: pb.ProcessingRequest) -> list[common_pb2.HeaderValue]:
    """Return the request's headers as the library reads them."""
    return list(message.request_headers.headers.headers)


def test_values_travel_raw_and_append_by_the_old_field() -> None:
    """H6: `value` would give an empty header; the first value replaces, others append."""
    changes = Changes(("x-gone",), (("x-one", ("1",)), ("x-two", ("1", "2"))))
    mutation = written(Continue(Side.REQUEST, changes)).request_headers.response.header_mutation
    assert list(mutation.remove_headers) == ["x-gone"]
    sent = [
        (o.header.key, o.header.raw_value, o.header.value, o.HasField("append") and o.append.value)
        for o in mutation.set_headers
    ]
    assert sent == [
        ("x-one", b"1", "", False),
        ("x-two", b"1", "", False),
        ("x-two", b"2", "", True),
    ]


@pytest.mark.parametrize(
    "name", ["host", "content-length", "transfer-encoding", "connection", "x-envoy-x", ":path"]
)
def test_some_headers_are_never_sent(name: str) -> None:
    """What Envoy refuses, or what would make a request hang, isn't passed on."""
    changes = Changes((name,), ((name, ("1",)),))
    mutation = written(Continue(Side.REQUEST, changes)).request_headers.response.header_mutation
    assert not mutation.set_headers
    assert not mutation.remove_headers
    assert not may_set(name)


def test_the_verdict_travels_as_metadata() -> None:
    """In the namespace that only the service may write, with the route's key."""
    message = written(Continue(Side.REQUEST, verdict="r@v"))
    namespace = message.dynamic_metadata.fields["extproc"].struct_value
    assert namespace.fields["verdict"].string_value == "r@v"
    assert not written(Continue(Side.REQUEST)).HasField("dynamic_metadata")


@pytest.mark.parametrize("had_length", [True, False])
def test_a_changed_body_states_its_length_where_one_was_stated(*, had_length: bool) -> None:
    """B5: a wrong content-length is a 500 or a hang; one that wasn't there isn't added."""
    answer = BodyAnswer(Side.REQUEST, b"four", buffered=True, had_length=had_length)
    response = written(answer).request_body.response
    assert response.body_mutation.body == b"four"
    lengths = [
        o.header.raw_value
        for o in response.header_mutation.set_headers
        if o.header.key == "content-length"
    ]
    assert lengths == ([b"4"] if had_length else [])


def test_a_body_where_there_was_none_replaces() -> None:
    """CONTINUE_AND_REPLACE adds a body to a message without one."""
    response = written(Continue(Side.REQUEST, body=b"x")).request_headers.response
    assert response.status == pb.CommonResponse.CONTINUE_AND_REPLACE
    assert response.body_mutation.body == b"x"


def test_immediate_responses() -> None:
    """Status, headers with repeated values, body, and details that say whose answer it is."""
    response = Response(201, {"content-type": "text/plain"}, b"body")
    response.headers.add("set-cookie", "a=1")
    response.headers.add("set-cookie", "b=2")
    immediate = written(Immediate(response)).immediate_response
    assert (immediate.status.code, immediate.body) == (201, b"body")
    assert immediate.details == "extproc_answered"
    cookies = [o for o in immediate.headers.set_headers if o.header.key == "set-cookie"]
    assert [(o.header.raw_value, o.append.value) for o in cookies] == [
        (b"a=1", False),
        (b"b=2", True),
    ]


@pytest.mark.parametrize("length", [1, 2000])
def test_what_immediate_responses_have_in_common_is_written_once(length: int) -> None:
    """Whose status, reason and headers are equal share these alone, not the body."""
    headers = {"content-type": "text/plain", "x-long": "a" * length}
    bodies = [b"first", b"", b"second"]
    answers = [written(Immediate(Response(200, headers, body))) for body in bodies]
    assert [answer.immediate_response.body for answer in answers] == bodies
    known = {answer.immediate_response.headers.SerializeToString() for answer in answers}
    assert len(known) == 1
    other = written(Immediate(Response(200, headers | {"x-long": "b" * length}, b"first")))
    assert other.immediate_response.headers.SerializeToString() not in known


def test_a_body_without_a_type_takes_the_streamed_form() -> None:
    """Envoy's local reply would call it text/plain."""
    head, rest = encode(Immediate(Response(200, {}, b"raw"), streamed=True))
    first = pb.ProcessingResponse.FromString(head).streamed_immediate_response
    headers = {h.key: h.raw_value for h in first.headers_response.headers.headers}
    assert headers == {":status": b"200", "content-length": b"3"}
    last = pb.ProcessingResponse.FromString(rest).streamed_immediate_response.body_response
    assert (last.body, last.end_of_stream) == (b"raw", True)


def test_giving_up_sends_nothing() -> None:
    """The stream is closed instead."""
    assert encode(GiveUp()) == ()


def test_trailers_and_more_time() -> None:
    """The two small messages."""
    assert written(TrailersAnswer(Side.RESPONSE)).HasField("response_trailers")
    more = pb.ProcessingResponse.FromString(override_timeout(1.5))
    assert more.override_message_timeout.ToMilliseconds() == 1500


def test_a_response_is_read() -> None:
    """Status and where it comes from."""
    message = pb.ProcessingRequest()
    message.response_headers.headers.headers.add(key=":status", raw_value=b"204")
    message.attributes["envoy.filters.http.ext_proc"].update(
        {"response.code_details": "via_upstream"}
    )
    event = decode(message.SerializeToString())
    assert isinstance(event, ResponseHeaders)
    assert (event.status, event.code_details) == (204, "via_upstream")


@pytest.mark.parametrize(
    ("authority", "host"),
    [("Shop.Example.:443", "shop.example"), ("[::1]:80", "[::1]"), ("h", "h"), ("", "")],
)
def test_one_host(authority: str, host: str) -> None:
    """H13: case, port and trailing dot make no difference."""
    assert host_only(authority) == host


def test_addresses() -> None:
    """The port goes; IPv6 loses its brackets."""
    assert address_only("192.0.2.1:99") == "192.0.2.1"
    assert address_only("[2001:db8::1]:99") == "2001:db8::1"


def test_ext_authz_reads_the_other_field() -> None:
    """Only `value` counts there, and several values are joined by us."""
    changes = Changes(("x-gone",), (("x-two", ("1", "2")),))
    data = wire_authz.encode(Continue(Side.REQUEST, changes, verdict="r@v"))
    message = ext_authz_pb2.CheckResponse.FromString(data)
    assert message.status.code == 0
    (option,) = message.ok_response.headers
    assert (option.header.key, option.header.value, option.header.raw_value) == (
        "x-two",
        "1, 2",
        b"",
    )
    assert list(message.ok_response.headers_to_remove) == ["x-gone"]


def test_ext_authz_denies_what_it_can_not_carry() -> None:
    """Without a verdict, or with a body to change, the answer is a denial."""
    for answer in (
        Continue(Side.REQUEST),
        Continue(Side.REQUEST, body=b"x", verdict="r@v"),
        Continue(Side.REQUEST, target="/other", verdict="r@v"),
        Immediate(Response.problem(403, "No")),
    ):
        message = ext_authz_pb2.CheckResponse.FromString(wire_authz.encode(answer))
        assert message.status.code != 0
        assert message.denied_response.status.code in {403, 500}


@pytest.mark.parametrize(
    ("came", "goes", "removed"),
    [
        ("/x?token=t&a=1", "/x?a=1", ["token"]),
        ("/x?token=t", "/x", ["token"]),
        ("/x?a=1&token=t&&token=u&%74oken&a", "/x?a=1&a", ["token", "%74oken"]),
        ("/x?token=t&a=1", "/y?a=1", None),
        ("/x?token=t&a=1", "/x?a=2", None),
        ("/x?a=1&a=2", "/x?a=1", None),
        ("/x?a=1&b=2", "/x?b=2&a=1", None),
        ("/x", "/x?a=1", None),
    ],
)
def test_ext_authz_takes_parameters_off(came: str, goes: str, removed: list[str] | None) -> None:
    """Where nothing else of the target changes; that it couldn't carry."""
    answer = Continue(Side.REQUEST, target=goes, verdict="r@v")
    message = ext_authz_pb2.CheckResponse.FromString(wire_authz.encode(answer, target=came))
    if removed is None:
        assert message.denied_response.status.code == 500
    else:
        assert list(message.ok_response.query_parameters_to_remove) == removed


def test_ext_authz_requests_are_read() -> None:
    """Path with query, raw headers, the route by context extension."""
    message = ext_authz_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path, http.host = "GET", "/a?b=1", "Shop:80"
    http.header_map.headers.add(key="x-a", raw_value=b"1")
    http.header_map.headers.add(key=":path", raw_value=b"/")
    message.attributes.context_extensions["extproc_route"] = "r@v"
    message.attributes.source.address.socket_address.address = "192.0.2.9"
    event, body = wire_authz.decode(message.SerializeToString())
    assert (event.request.target, event.request.host, event.route_key) == ("/a?b=1", "shop", "r@v")
    assert (event.request.address, body) == ("192.0.2.9", b"")
    assert list(event.request.headers.items()) == [("x-a", "1")]
    assert isinstance(event.request.headers, Headers)


def test_long_texts_of_clients_are_not_remembered() -> None:
    """Thousands of long paths, hosts and values would be kept for nothing."""
    before = (wire._head_again.cache_info().currsize, _host_again.cache_info().currsize)
    remembered = _same_for_many.cache_info().currsize
    for number in range(50):
        long = f"{number}" + "x" * 5000
        event = decode(request((":path", b"/" + long.encode()), (":authority", long.encode())))
        assert isinstance(event, RequestHeaders)
        assert event.request.target == "/" + long
        is_host(event.request.host)
        answer = Continue(Side.REQUEST, Changes((), (("x", (long,)),)), verdict="r@v")
        assert long.encode() in encode(answer)[0]
        assert encode(Continue(Side.REQUEST, target="/" + long))
    after = (wire._head_again.cache_info().currsize, _host_again.cache_info().currsize)
    assert after == before
    assert _same_for_many.cache_info().currsize == remembered
