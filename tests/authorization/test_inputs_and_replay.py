"""What a record says of a policy's inputs, and judging it again by other policies."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.authorization.policies import Allow, Decision, Deny, Policy, Rule, judged
from extproc.authorization.replay import Change, Unknown, again, compared, is_record
from extproc.core.headers import Headers
from extproc.core.principal import Principal
from extproc.core.values import MalformedRequest, Request
from extproc.expressions.conditions import Context, condition
from extproc.expressions.inputs import Inputs


def request(target: str = "/a?x=1&y=2", **headers: str) -> Request:
    """Return a request of alice's."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    made = Request(method="GET", host="shop", target=target, headers=Headers(pairs))
    made.principal = Principal(
        "jwt", "shop", "alice", "https://issuer", ("read",), {"tier": "gold", "n": 7}
    )
    return made


def inputs(
    *sources: str, of: Request | None = None, at: float = 0.0, **options: Any
) -> dict[str, Any]:
    """Return what is recorded for these conditions."""
    collected = Inputs([condition(source).expression for source in sources], **options)
    values, absent = collected.of(Context(of or request(), at))
    return {**values, "absent": absent} if absent else dict(values)


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("principal.claims.tier == 'a'", ("tier",)),
        ("principal.claims['tier'] == 'a'", ("tier",)),
        ('principal.claims["a b"] == 1', ("a b",)),
        ("has(principal.claims.x) && principal.claims.x == 1", ("x",)),
        ("'x' in principal.claims", ("x",)),
        ("'x' in principal.claims && principal.claims.y", ("y", "x")),
        ("'x' in principal.claims.list", ("list",)),
        ("principal.claims[request.method] == 1", None),
        ("principal.claims.exists(k, k == 'a')", None),
        ("principal.claims.all (k, k == 'a') || principal.claims.a", None),
        ("principal.claims.exists", ("exists",)),
        ("principal.claims.a.startsWith('b')", ("a",)),
        ("principal.claims.all(k, k in ['a']) && principal.claims.b == 1", None),
        ("size(principal.claims) == 0", None),
        ("request.method == 'principal.claims.quoted'", ()),
        ("'principal.claims.a' == 'b' && size(principal.claims) == 1", None),
        ("principal.claims['a\\'b'] == 1", ("a'b",)),
        ("'a' + 'b' in principal.claims", None),
        ("principal.subject + '-admin' in principal.claims", None),
        ("// isn't principal.claims.b\nprincipal\n.claims.c == 1", ("c",)),
    ],
)
def test_which_keys_of_a_map_are_read(source: str, keys: tuple[str, ...] | None) -> None:
    """Those written out; any, where it can't be told."""
    found = condition(source).expression.reads.keys("principal.claims")
    assert found == keys or (found is not None and keys is not None and set(found) == set(keys))


def test_what_is_read_is_recorded_and_no_more() -> None:
    """Scalars, keys of maps, and which of them were absent."""
    assert inputs(
        "request.method == 'GET' && request.query.x == '1'",
        "principal.claims.tier == 'gold' && has(principal.claims.none)",
        "'read' in principal.scopes",
        'request.headers["x-tenant"] == "a"',
        of=request(x_tenant="acme", x_other="secret"),
    ) == {
        "request.method": "GET",
        "request.query.x": "1",
        "principal.claims.tier": "gold",
        "principal.scopes": ["read"],
        "request.headers.x-tenant": "acme",
        "absent": ("principal.claims.none",),
    }


def test_credentials_are_never_recorded() -> None:
    """L2: whatever a policy reads, and wherever an authenticator is told to look."""
    made = request(authorization="Bearer t", cookie="c=1", x_api_key="k", x_own="o")
    source = " || ".join(
        f'request.headers["{name}"] == "x"'
        for name in ("authorization", "cookie", "x-api-key", "x-own")
    )
    assert inputs(source, of=made, secret_headers=frozenset({"x-own"})) == {}


def test_parameters_that_are_credentials_are_never_recorded() -> None:
    """L2: by whatever name a policy reads them, and where a header repeats the whole target."""
    made = request("/a?token=t1&access_token=t2&x=1", referer="https://shop/?token=t3")
    sources = (
        'request.query.token != "" || request.query["token"] != "" || "token" in request.query',
        'request.queries.token[0] != "" || request.queries["access_token"].size() == 1',
        'request.query.access_token != "" || request.query.absent == ""',
        'request.headers.referer != "" || request.headers["referer"] != ""',
        'request.query.x == "1"',
    )
    kept = inputs(*sources, of=made, secret_parameters=frozenset({"token"}))
    assert kept == {"request.query.x": "1", "absent": ("request.query.absent",)}
    judge = policy('allow a request.query.token == "t1"')
    assert again({"inputs": kept}, (), [judge]) == Unknown("request.query.token")


def test_a_value_too_long_for_a_record_is_left_out() -> None:
    """Then it is unknown, not cut."""
    assert inputs('request.headers["x"] == "1"', of=request(x="v" * 600)) == {}


def policy(*rules: str, name: str = "p") -> Policy:
    """Return a policy of rules written `allow name: source`."""
    made = []
    for rule in rules:
        effect, called, source = rule.split(" ", 2)
        made.append(Rule(called, condition(source), effect == "deny", "because"))
    return Policy(name, tuple(made))


READER = "allow reader 'read' in principal.scopes"
GOLD = "allow gold principal.claims.tier == 'gold'"
NO_POST = "deny post request.method == 'POST'"


def record(*sources: str, decision: str = "allow", **fields: Any) -> dict[str, Any]:
    """Return a record whose inputs are what these conditions read."""
    return {
        "route": "r",
        "decision": decision,
        "rule": "reader",
        "inputs": inputs(*sources),
    } | fields


def test_the_same_policy_gives_the_same_decision() -> None:
    """From the recorded inputs alone."""
    same = record("'read' in principal.scopes", "request.method == 'POST'")
    decision = again(same, (), [policy(READER, NO_POST)])
    assert decision == Allow("reader")
    assert compared(same, decision) is None


def test_a_change_names_both_rules() -> None:
    """What was, and what would be."""
    seen = record("principal.claims.tier == 'gold'", "request.method == 'GET'")
    decision = again(seen, (), [policy(GOLD, "deny get request.method == 'GET'")])
    assert decision == Deny("get", "because")
    assert compared(seen, decision) == Change("r", ("allow", "reader"), ("deny", "get"))


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        ("allow a request.path == '/a'", "request.path"),
        ("allow a principal.claims.other == 1", "principal.claims.other"),
        ("allow a size(principal.claims) == 1", "principal.claims"),
        ("allow a request.time > timestamp('2020-01-01T00:00:00Z')", "request.time"),
    ],
)
def test_what_was_not_recorded_is_unknown(rule: str, reads: str) -> None:
    """Never guessed."""
    decision = again(record("request.method == 'GET'"), (), [policy(rule)])
    assert decision == Unknown(reads)


def test_the_moment_of_a_request_is_known() -> None:
    """As the line of a record has it; what is no moment is no record."""
    rule = "request.time.getHours() >= 22"
    line = orjson.dumps(record(rule, inputs=inputs(rule, at=1_767_304_800.0)))  # 22:00 UTC
    seen = orjson.loads(line)
    assert is_record(seen)
    assert again(seen, (), [policy("deny night " + rule)]) == Deny("night", "because")
    assert again(seen, (), [policy("allow late request.time.getHours() < 23")]) == Allow("late")
    for other in ("yesterday", "2026-01-01T22:00:00", 5):
        assert not is_record({**seen, "inputs": {"request.time": other}})


def test_an_absent_value_is_known_to_be_absent() -> None:
    """`has` is false again, and reading it is an error again."""
    seen = record("has(principal.claims.suspended)")
    assert seen["inputs"] == {"absent": ("principal.claims.suspended",)}
    allowed = policy("allow x !has(principal.claims.suspended)")
    assert again(seen, (), [allowed]) == Allow("x")
    failing = policy("allow x true", "deny s principal.claims.suspended == true")
    assert again(seen, (), [failing]) == Deny("s", "policy_error")


@pytest.mark.parametrize("reads", ["request.query.x == '1'", "'x' in request.query"])
def test_a_parameter_sent_twice_is_malformed_again(reads: str) -> None:
    """As it was when the request came; both values are recorded."""
    made = request("/a?x=1&x=2")
    kept = inputs(reads, of=made)
    assert kept == {"request.query.x": ["1", "2"]}
    judge = policy(f"allow one {reads}")
    with pytest.raises(MalformedRequest):
        judged([judge], Context(made))
    assert again({"inputs": kept}, (), [judge]) == Deny("", "malformed")


NAMES = "request.query.all(k, k in ['x', 'y']) && request.query.x == '1'"


def test_asking_for_a_parameter_does_not_read_the_others() -> None:
    """So one of them may be there twice; whoever reads the whole query reads all."""
    made = request("/a?x=1&y=1&y=2")
    for source in (
        "'x' in request.query",
        "has(request.query.x)",
        "request.query['x'] == '1'",
        NAMES,
    ):
        assert judged([policy(f"allow a {source}")], Context(made)) == Allow("a")
    with pytest.raises(MalformedRequest):
        judged([policy("allow a size(request.query) == 2")], Context(made))


def test_what_goes_through_all_keys_is_unknown() -> None:
    """A record holds those that are written out."""
    source = "request.query.exists(k, k == 'x')"
    assert judged([policy(f"allow a {source}")], Context(request())) == Allow("a")
    decision = again(record(source), (), [policy(f"allow a {source}")])
    assert decision == Unknown("request.query")


def test_consumers_are_found_again() -> None:
    """By the new file's conditions."""
    seen = record("principal.claims.tier == 'gold'")
    consumers = [("golden", condition("principal.claims.tier == 'gold'"))]
    assert again(seen, consumers, [policy("allow c consumer == 'golden'")]) == Allow("c")


def test_a_consumer_that_the_credential_names_is_kept() -> None:
    """As an API key does: conditions aren't asked, now or later."""
    made = request()
    made.principal = Principal("api_key", "keys", "one", consumer="partner")
    seen = {"inputs": inputs("consumer == 'partner'", of=made)}
    judge = policy("allow c consumer == 'partner'")
    everyone = [("anyone", condition("true"))]
    assert again(seen, everyone, [judge]) == Allow("c")
    assert isinstance(again({"inputs": {}}, everyone, [judge]), Deny)


def test_a_record_without_inputs_is_unknown() -> None:
    """Nobody wrote down what was read."""
    assert again({"decision": "allow", "inputs": None}, (), [policy(READER)]) == Unknown("inputs")


RULES = st.lists(
    st.sampled_from(
        [
            READER,
            GOLD,
            NO_POST,
            "allow any true",
            "deny late principal.claims.late == true",
            "deny own 'x' in request.headers && request.headers['x'] == '1'",
            "allow query request.query.x == '1'",
            "allow sub principal.subject == 'alice'",
            "deny n has(principal.claims.n) && principal.claims.n > 5",
        ]
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


@given(RULES, st.sampled_from(["/a", "/a?x=1", "/a?x=2", "/a?x=1&x=2"]), st.booleans())
def test_a_record_judged_by_its_own_policy_says_the_same(
    rules: list[str],
    target: str,
    own: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """Whatever the rules and the request: replay is the decision, from the record alone."""
    made = request(target, x="1") if own else request(target)
    judge = policy(*rules)
    expected: Decision
    try:
        expected = judged([judge], Context(made))
    except MalformedRequest:
        expected = Deny("", "malformed")
    kept = inputs(*(rule.split(" ", 2)[2] for rule in rules), of=made)
    assert again({"inputs": kept}, (), [judge]) == expected


def test_remembered_decisions_belong_to_their_principal() -> None:
    """Two with the same name and other claims; and what may differ each time isn't remembered."""
    judge = policy(GOLD)
    gold, plain = request(), request()
    plain.principal = Principal("jwt", "shop", "alice", "https://issuer", (), {"tier": "plain"})
    for _ in range(3):
        assert judge.decide(Context(gold)) == Allow("gold")
        assert isinstance(judge.decide(Context(plain)), Deny)
    paths = policy("allow a request.path == '/a'")
    assert paths.decide(Context(request("/a"))) == Allow("a")
    assert isinstance(paths.decide(Context(request("/b"))), Deny)
    late = policy("allow l request.time < timestamp('2020-01-01T00:00:00Z')")
    assert late.decide(Context(gold, now=0.0)) == Allow("l")
    assert isinstance(late.decide(Context(gold, now=2e9)), Deny)
    methods = policy(NO_POST, "allow any true")
    assert methods.decide(Context(gold)) == Allow("any")
    gold.method = "POST"
    assert methods.decide(Context(gold)) == Deny("post", "because")


@pytest.mark.parametrize(
    "changes",
    [
        {"route": []},
        {"by": []},
        {"decision": 1},
        {"inputs": []},
        {"inputs": {"absent": 5}},
        {"inputs": {"absent": [5]}},
        {"inputs": {"principal.scopes": 5}},
        {"inputs": {"principal.scopes": "read"}},
        {"inputs": {"principal.subject": []}},
        {"inputs": {"request.query.x": {}}},
        {"inputs": {"request.queries.x": "1"}},
        {"inputs": {"request.headers.x": 1}},
    ],
)
def test_what_has_another_form_is_no_record(changes: dict[str, Any]) -> None:
    """Nothing of it is judged."""
    assert is_record(record(READER.split(" ", 2)[2]))
    assert not is_record(record() | changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
HELD = (
    *("request.method", "request.path", "request.query.x", "request.headers.x", "absent"),
    *("principal.scopes", "principal.subject", "principal.claims.n", "principal.claims.tier"),
)


@given(
    RULES,
    st.fixed_dictionaries(
        {"decision": st.just("allow") | JSON},
        optional={
            "route": JSON,
            "inputs": JSON | st.dictionaries(st.sampled_from(HELD), JSON | st.lists(st.text())),
        },
    ),
)
def test_any_record_is_judged_or_none(rules: list[str], value: dict[str, Any]) -> None:
    """Whatever stands in a file."""
    if is_record(value):
        consumers = [("c", condition("principal.claims.tier == 'gold'"))]
        compared(value, again(value, consumers, [policy(*rules)]))
