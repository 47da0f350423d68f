"""Aggregation: what waits for what, what is called, what fails."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from extproc.aggregation.bodies import body
from extproc.aggregation.budget import Bounds
from extproc.aggregation.calls import Call
from extproc.aggregation.plan import Plan, PlanFault, plan
from extproc.aggregation.plugin import Aggregate, AggregateBody
from extproc.aggregation.views import Selection
from extproc.core.errors import UpstreamFault
from extproc.core.plugin import Plugin
from extproc.core.principal import Principal
from extproc.core.values import Request
from extproc.expressions.conditions import condition
from extproc.expressions.metered import BUDGET
from extproc.expressions.projections import Projection
from extproc.expressions.templates import Template, template
from extproc.testing import Trial, answered
from tests.support.waiting import until_async

if TYPE_CHECKING:
    from extproc.core.answered import Answered

PARTS = ("profile", "orders", "ads")


def call(part: str, path: str, *, required: bool = True, default: object = None) -> Call:
    """Return a call to an upstream named like its part."""
    return Call(part, part, template(path, parts=PARTS), required=required, default=default)


def made(**views: str) -> Plan:
    """Return a plan of a profile, orders that wait for it, and ads."""
    return plan(
        [
            call("profile", "/users/{principal.subject}"),
            call("orders", "/orders?user={profile.id}"),
            call("ads", "/ads", required=False, default=[]),
        ],
        Projection("{name: profile.name, orders: orders[].id, ads: ads}"),
        {name: Projection(view) for name, view in views.items()},
        1.0,
        selection=Selection({name: name for name in views}),
    )


class Alice(Plugin):
    """Everybody is Alice, on a phone."""

    def on_request(self, request: Request) -> None:
        """Set the principal."""
        request.principal = Principal("jwt", "shop", "al/ice")
        request.consumer = "mobile"


def trial(subject: Plan) -> Trial:
    """Return a trial with every upstream well."""
    result = Trial(Alice(), Aggregate(plan=subject, gates={}))
    result.outside.answers |= {
        "profile/users/al%2Fice": answered(b'{"id": "a&b", "name": "Alice"}'),
        "orders/orders?user=a%26b": answered(b'[{"id": 1}, {"id": 2}]'),
        "ads/ads": answered(b'["ad"]'),
    }
    return result


async def test_parts_wait_for_what_they_name() -> None:
    """Values are encoded for their place; the answer has its shape."""
    subject = trial(made())
    response = await subject.request()
    assert json.loads(response.body or b"") == {"name": "Alice", "orders": [1, 2], "ads": ["ad"]}
    assert "x-gateway-partial" not in response.headers


@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        ("{n: ceil(to_number(profile.v))}", b'{"v":"inf"}'),
        ("{n: avg(profile.v)}", b'{"v":[1e308,1e308]}'),
        ("{n: avg(profile.v), id: profile.id}", b'{"v":[1e308,1e308],"id":100000000000000000000}'),
        ("{n: sum(profile.v[].to_number(@))}", b'{"v":["1.5","1' + b"0" * 400 + b'"]}'),
        ("{n: &profile}", b"{}"),
    ],
)
async def test_what_json_can_t_say_is_no_answer(shape: str, answer: bytes) -> None:
    """An infinite number made of a part's is 502 as for another shape, and never null."""
    subject = trial(made(mobile=shape))
    subject.outside.answers["profile/users/al%2Fice"] = answered(answer)
    response = await subject.request()
    assert response.status == 502
    assert response.reason == "part_shape"


async def test_a_view_makes_only_the_calls_it_reads() -> None:
    """What a client doesn't get is never asked for."""
    subject = trial(made(mobile="{name: profile.name}"))
    response = await subject.request()
    assert json.loads(response.body or b"") == {"name": "Alice"}
    assert [name for name, _ in subject.outside.calls] == ["profile/users/al%2Fice"]


@pytest.mark.parametrize(
    "answer",
    [
        UpstreamFault("connect", "x"),
        UpstreamFault("timeout", "x"),
        answered(b"no json"),
        answered(b"[]", 500),
        answered(b"NaN"),
    ],
)
async def test_a_part_that_isnt_required_is_left_out_and_named(answer: Exception) -> None:
    """Its default stands in; the status stays 200."""
    subject = trial(made())
    subject.outside.answers["ads/ads"] = answer
    response = await subject.request()
    assert response.status == 200
    assert json.loads(response.body or b"")["ads"] == []
    assert response.headers["x-gateway-partial"] == "ads"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (UpstreamFault("connect", "10.0.0.1 refused"), 502),
        (UpstreamFault("timeout", "x"), 504),
        (UpstreamFault("too_large", "x"), 502),
        (answered(b"no json"), 502),
        (answered(b"[]", 500), 502),
    ],
)
async def test_a_required_part_that_fails_fails_all(answer: Exception, status: int) -> None:
    """502, or 504 past a timeout; nothing of the upstream's address shows."""
    subject = trial(made())
    subject.outside.answers["orders/orders?user=a%26b"] = answer
    response = await subject.request()
    assert response.status == status
    assert b"10.0.0.1" not in (response.body or b"")


async def test_a_path_without_a_value_fails_its_call() -> None:
    """B7: nothing is called with a segment that wasn't filled; a parameter is left out."""
    subject = trial(made())
    del subject.outside.answers["orders/orders?user=a%26b"]
    subject.outside.answers["profile/users/al%2Fice"] = answered(b'{"name": "Alice"}')
    subject.outside.answers["orders/orders"] = answered(b"[]")
    assert (await subject.request()).status == 200
    other = plan(
        [call("profile", "/users/1"), call("orders", "/orders/{profile.id}")],
        Projection("orders"),
        {},
        1.0,
    )
    subject = Trial(Aggregate(plan=other, gates={}))
    subject.outside.answers["profile/users/1"] = answered(b"{}")
    assert (await subject.request()).status == 502
    assert not any(name.startswith("orders") for name, _ in subject.outside.calls)


async def test_an_answer_to_an_exchange_that_has_ended() -> None:
    """The event loop may have been told of it before: nobody is there to take it."""
    loop = asyncio.get_running_loop()
    under_way: list[asyncio.Future[Answered]] = []
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))

    def cached(*_arguments: object, **_options: object) -> asyncio.Future[Answered]:
        under_way.append(loop.create_future())
        return under_way[-1]

    both = plan(
        [call("orders", "/orders"), call("ads", "/ads")], Projection("[ads, orders]"), {}, 1.0
    )
    subject = Aggregate(plan=both, gates={})
    subject.on_start(replace(Trial().services, cached=cached))
    exchange = asyncio.ensure_future(subject.answer(Request(), None))
    await until_async(lambda: len(under_way) == 2)
    exchange.cancel()
    for future in under_way:
        future.set_result(answered(b"{}"))
    await asyncio.wait([exchange])
    await asyncio.sleep(0)
    assert reported == []


async def test_credentials_do_not_go_along() -> None:
    """B10: what the client presented is the gateway's to know."""
    subject = trial(made())
    await subject.request(headers={"authorization": "Bearer secret", "x-request-id": "7"})
    for _, headers in subject.outside.calls:
        assert ("x-request-id", "7") in headers
        assert "authorization" not in dict(headers)


def test_circles_and_unknown_parts_are_found_when_loading() -> None:
    """A plan that can't be run isn't made."""
    circle = [call("profile", "/{orders.id}"), call("orders", "/{profile.id}")]
    with pytest.raises(PlanFault, match="waits for itself: profile → orders → profile"):
        plan(circle, Projection("profile"), {}, 1.0)
    with pytest.raises(PlanFault, match="looks up nothing"):
        plan([call("ads", "/")], Projection("lookup('nothing', ads)"), {}, 1.0)


def keyed(each: str, **more: Any) -> Plan:
    """Return a plan of one call for each key of the request."""
    one = Call(
        "profile", "profile", template("/users/{key}", parts=("key",)), each=Projection(each)
    )
    return plan([replace(one, **more)], Projection("profile[].name"), {}, 1.0)


@pytest.mark.parametrize(
    ("each", "path", "body"),
    [
        ("request.queries.id", "/x?id=1&id=2&id=1", b""),
        ("split(request.queries.ids[0], ',')", "/x?ids=1,2", b""),
        ("[request.params.one, request.params.two]", "/x/1/2", b""),
        ("request.body.ids", "/x", b'{"ids": [1, "2", null, {}, 1.0]}'),
        ("request.[queries.one, params.two][]", "/x/1/2?one=1", b""),
        ("request.not_null(body.a, queries.id)", "/x?id=1&id=2", b"{}"),
        ("request | (queries.a || body.ids)", "/x", b'{"ids": [1, 2]}'),
        ("request.{a: queries.id, b: body.b}.*[]", "/x?id=1", b'{"b": 2}'),
        ("request.body[?n > `0`].n", "/x", b'[{"n": 1}, {"n": 0}, {"n": 2}]'),
    ],
)
async def test_keys_of_the_request(each: str, path: str, body: bytes) -> None:
    """Each once, wherever in it they are; what is no key is left out."""
    kind = AggregateBody if body else Aggregate
    pattern = "/x/{one}/{two}" if path.startswith("/x/") else "/*"
    subject = Trial(kind(plan=keyed(each), gates={}), path=pattern)
    for number in (1, 2):
        subject.outside.answers[f"profile/users/{number}"] = answered(b'{"name": "n%d"}' % number)
    response = await subject.request("POST" if body else "GET", path, body=body)
    assert (response.status, response.body) == (200, b'["n1","n2"]')
    assert len(subject.outside.calls) == 2


@pytest.mark.parametrize(
    ("each", "path", "status"),
    [
        ("split(request.queries.ids[0], ',')", "/x", 400),
        ("split(request.queries.ids, ',')", "/x?ids=1", 400),
        ("request.queries.id", "/x?id=1&id=2&id=3", 400),
        ("request.queries.id", "/x", 200),
        ("request.queries.id", "/x?id=%ff", 400),
    ],
)
async def test_a_request_that_holds_no_keys(each: str, path: str, status: int) -> None:
    """What can't be is the client's to mend, and so are more keys than calls may be made."""
    subject = Trial(Aggregate(plan=replace(keyed(each), bounds=Bounds(calls=2)), gates={}))
    subject.outside.answers |= {f"profile/users/{number}": answered(b"{}") for number in (1, 2, 3)}
    response = await subject.request("GET", path)
    assert response.status == status


@pytest.mark.parametrize(
    "ids",
    [
        b'[1, {"id": 2}]',
        b"[1, null]",
        b"[1, true]",
        b'[1, ""]',
        b"[[1]]",
        b'{"id": 1}',
        b'["..", 1]',
    ],
)
async def test_changes_that_no_key_names(ids: bytes) -> None:
    """Nothing is left out of what a client wants changed: it is told, and nothing is called."""
    subject = Trial(AggregateBody(plan=keyed("request.body.ids", method="PUT"), gates={}))
    subject.outside.answers["profile/users/1"] = answered(b"{}")
    response = await subject.request("POST", body=b'{"ids": %s}' % ids)
    assert (response.status, subject.outside.calls) == (400, [])


async def test_changes_of_nothing() -> None:
    """None are named, so none are made."""
    subject = Trial(AggregateBody(plan=keyed("request.body.ids", method="PUT"), gates={}))
    for empty in (b'{"ids": []}', b'{"ids": null}', b"{}"):
        response = await subject.request("POST", body=empty)
        assert (response.status, response.body, subject.outside.calls) == (200, b"[]", [])


@pytest.mark.parametrize(
    ("more", "status", "made"),
    [({}, 400, 0), ({"required": False}, 200, 4), ({"required": False, "method": "POST"}, 200, 4)],
)
async def test_b9_what_calls_send_is_bounded_together(
    more: dict[str, Any], status: int, made: int
) -> None:
    """B9: a body that goes along with each of a hundred calls is not kept a hundred times."""

    def compiled(text: str, _place: object) -> Template:
        return template(text, parts=("key",), body=True)

    sent = body({"id": "{key}", "all": "{request.body}"}, compiled)
    changing = keyed("request.body.ids", **{"method": "PUT", "body": sent} | more)
    bounded = replace(changing, bounds=Bounds(bytes=10_000))
    subject = Trial(AggregateBody(plan=bounded, gates={}))
    subject.outside.answers |= {f"profile/users/{n}": answered(b"{}") for n in range(9)}
    response = await subject.request(
        "POST", body=b'{"ids": [0,1,2,3,4,5], "x": "%s"}' % (b"x" * 2000)
    )
    assert (response.status, len(subject.outside.calls)) == (status, made)
    small = await subject.request("POST", body=b'{"ids": [0, 1], "x": ""}')
    assert (small.status, "x-gateway-partial" in small.headers) == (200, False)


def one_of(part: str, method: str, path: str, **more: Any) -> Call:
    """Return a call to the upstream `u`."""
    return Call(part, "u", template(path, parts=("key",)), method=method, **more)


ORDER = one_of("order", "POST", "/order")
IDS = Projection("request.queries.id")


@pytest.mark.parametrize(
    ("others", "query", "status", "made"),
    [
        ([one_of("mail", "PUT", "/mail/{request.query.to}")], "", 400, []),
        ([one_of("user", "GET", "/user/{request.query.to}")], "", 400, []),
        ([one_of("user", "GET", "/user/{request.query.to}")], "to=1", 200, ["order", "user/1"]),
        (
            [
                one_of(
                    "mail",
                    "PUT",
                    "/{request.query.a}",
                    fallback=one_of("mail", "PUT", "/{request.query.b}"),
                )
            ],
            "",
            400,
            [],
        ),
        (
            [
                one_of(
                    "mail",
                    "PUT",
                    "/{request.query.a}",
                    fallback=one_of("mail", "PUT", "/{request.query.b}"),
                )
            ],
            "b=1",
            200,
            ["order", "1"],
        ),
        ([one_of("mail", "PUT", "/{request.query.a}", required=False)], "", 200, ["order"]),
        (
            [
                one_of("mail", "PUT", "/{request.query.a}"),
                one_of("more", "PUT", "/{key}", each=IDS),
            ],
            "a=1&id=2&id=..",
            400,
            [],
        ),
        ([one_of("some", "GET", "/{key}", each=IDS)], "id=1&id=..&id=2", 200, ["order", "1", "2"]),
        ([one_of("some", "GET", "/{key}", each=IDS)], "id=..", 200, ["order"]),
        ([one_of("some", "GET", "/{key}", each=IDS)], "id=1&id=2&id=3&id=4", 400, []),
        ([one_of("some", "PUT", "/{key}", each=IDS)], "id=1&id=2&id=3&id=4", 400, []),
        (
            [one_of("some", "GET", "/{key}", each=IDS), one_of("same", "GET", "/{key}", each=IDS)],
            "id=1&id=2&id=3",
            200,
            ["order", "1", "2", "3"],
        ),
        (
            [
                one_of("some", "GET", "/{key}", each=IDS),
                one_of("more", "GET", "/x/{key}", each=IDS),
            ],
            "id=1&id=2",
            400,
            [],
        ),
        (
            [one_of("may", "GET", "/1", required=False), one_of("some", "GET", "/{key}", each=IDS)],
            "id=1&id=2&id=3",
            200,
            ["order", "1", "2", "3"],
        ),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_nothing_is_changed_where_a_call_beside_it_can_not_be_made(
    others: list[Call], query: str, status: int, made: list[str], *, first: bool
) -> None:
    """Whatever stands first in the file: where it shows beforehand, nothing is done."""
    calls = [ORDER, *others] if first else [*others, ORDER]
    whole = Projection(f"[{', '.join(call.part for call in calls)}]")
    subject = Trial(
        Aggregate(
            plan=plan(calls, whole, {}, 1.0, main="order", bounds=Bounds(calls=4, at_once=1)),
            gates={},
        )
    )
    places = ("order", "user/1", "1", "2", "3", "4", "x/1", "x/2")
    subject.outside.answers |= {f"u/{place}": answered(b"{}") for place in places}
    response = await subject.request("POST", f"/?{query}")
    assert response.status == status
    assert sorted(name for name, _ in subject.outside.calls) == sorted(f"u/{one}" for one in made)


@pytest.mark.parametrize("late", ["some", "more"])
async def test_too_many_calls_over_several_lists_are_one_answer(late: str) -> None:
    """The client's own list is to blame, whichever call is the one too many."""
    calls = [
        call("orders", "/orders"),
        one_of("some", "GET", "/{key}", each=IDS),
        one_of("more", "GET", "/x/{key}", each=Projection("orders")),
    ]
    calls = calls if late == "more" else [calls[0], calls[2], calls[1]]
    whole = Projection("[some, more]")
    if late == "some":
        calls[2] = replace(calls[2], when=condition("orders != null", parts=("orders",)))
    bounds = Bounds(calls=4, at_once=1)
    subject = Trial(Aggregate(plan=plan(calls, whole, {}, 1.0, bounds=bounds), gates={}))
    subject.outside.answers |= {f"u/{one}": answered(b"{}") for one in ("1", "2", "x/1", "x/2")}
    subject.outside.answers["orders/orders"] = answered(b"[1, 2]")
    response = await subject.request("GET", "/?id=1&id=2")
    assert response.status == 400
    assert b"asks for more than" in bytes(response.body or b"")


async def test_b9_what_many_calls_look_through_is_bounded_together() -> None:
    """Each evaluation has a budget, and so have those of a hundred calls together."""
    text = "z" * 2_000_000
    found = "string(orders.t.contains(string(key)))"
    path = template(f"/users/{{{found}}}/{{key}}", parts=("key", "orders"))
    calls = [
        call("orders", "/orders"),
        Call("profile", "profile", path, each=Projection("orders.l"), required=False),
    ]
    subject = Trial(Aggregate(plan=plan(calls, Projection("profile"), {}, 1.0), gates={}))
    subject.outside.answers["orders/orders"] = answered(
        json.dumps({"t": text, "l": [*range(100)]}).encode()
    )
    await subject.request()
    made = [name for name, _ in subject.outside.calls if name.startswith("profile")]
    assert len(made) == 4 * BUDGET // len(text) - 1


@pytest.mark.parametrize(
    "each",
    ["request", "keys(request)", "request.*", "request[0]", "request.headers.a", "request.query.a"],
)
def test_what_of_a_request_gives_no_keys(each: str) -> None:
    """Found when the file loads."""
    with pytest.raises(PlanFault) as caught:
        keyed(each)
    assert caught.value.place == ("calls", "profile", "each")
    assert "gives no keys" in str(caught.value)
    assert "request.body" in caught.value.expected


def test_what_keys_wait_for() -> None:
    """A call that takes keys from the body waits for it; of an element's members it doesn't."""
    one = keyed("request.body.items[].request.headers")
    assert set(one.calls["profile"].names()) == {"key", "request.body"}
    assert one.calls["profile"].keys_of_client
    assert "request.body" not in keyed("request.queries.a").calls["profile"].names()
