"""Aggregations that can't be: errors and warnings with their places."""

# ruff: noqa: E501 - a mistake and its words are one line

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from extproc.aggregation.plugin import Aggregate
from extproc.aggregation.views import wanted_of
from extproc.config.build import assemble
from extproc.config.errors import ConfigError
from extproc.config.load import load

HEAD = """version: 1
listener: {address: "127.0.0.1:8080"}
identity: {headers: {x-user: "{principal.subject}"}}
upstreams: {a: {endpoints: ["http://127.0.0.1:1"]}, g: {endpoints: ["grpc://127.0.0.1:2"]}}
defaults: {authentication: none}
routes:
  - name: r
    match: {path: "/r/{id}"}
    aggregate:
      calls:
"""


def written(folder: Path, *calls: str, response: str = "one", more: str = "") -> Path:
    """Write a gateway with these calls, one in a line from line 10 on."""
    lines = "".join(f"        {call}\n" for call in calls)
    file = folder / "gateway.yaml"
    file.write_text(HEAD + lines + f'      response: "{response}"\n' + more)
    return file


ONE = "one: {upstream: a, path: /one}"


@pytest.mark.parametrize(
    ("calls", "response", "expected"),
    [
        (
            ['one: {upstream: a, path: "/{two.x}"}', 'two: {upstream: a, path: "/{one.x}"}'],
            "one",
            ":11:",
        ),
        (['one: {upstream: a, path: "/{on.x}"}'], "one", ":11:39: routes[0].aggregate.calls.one.path: reads on"),
        (['one: {upstream: a, path: "/{key}"}'], "one", ":11:37: routes[0].aggregate.calls.one.path: reads key, which belongs to `each`, expected it in the path, headers or body of a call with `each`, without `batch`"),
        (['one: {upstream: a, path: /x, headers: {a: "{keys}"}}'], "one", "reads keys, which belongs to `each`, expected it in the path, headers or body of a call with `each`, with `batch`"),
        (['one: {upstream: a, when: "key > 1", each: "request.queries.a", path: "/{key}"}'], "one", "reads key, which belongs to `each`"),
        ([ONE], "{a: oen.x}", "response: reads oen, which is no part, did you mean one?"),
        ([ONE], "lookup('one', `1`)", "looks up one, which has no `each`"),
        ([ONE], "lookup('two', `1`)", "looks up two, which is no part"),
        ([ONE], "nothing(one)", "calls nothing, which is no function, expected a function of JMESPath"),
        ([ONE], "lenght(one)", "calls lenght, which is no function, did you mean length?"),
        ([ONE], "lookup('one')", "calls lookup with another number of arguments, expected lookup('part', key)"),
        ([ONE, 'two: {upstream: a, each: "oen[]", path: "/{key}"}'], "two", ":12:"),
        (['one: {upstream: a, each: "one[]", path: "/{key}"}'], "one", "waits for itself: one → one"),
        (['one: {upstream: a, path: /x, when: "on.x"}'], "one", "calls.one.when: reads on"),
        (['one: {upstream: a, path: /x, when: "1"}'], "one", "expected a condition"),
        (["one: {upstream: a, path: /x, method: CONNECT}"], "one", "method: is CONNECT, expected a method that asks for something"),
        (["one: {upstream: a, path: /x, method: HEAD}"], "one", "method: is HEAD, expected a method whose answers have a body, such as GET"),
        (["one: {upstream: b, path: /x}"], "one", "names b, which isn't an upstream"),
        (["one: {upstream: a, path: /x, fallback: {upstream: b, path: /y}}"], "one", "fallback.upstream: names b"),
        (["one: {upstream: a, path: /x, batch: {key: id}}"], "one", "`batch` without `each`"),
        (['one: {upstream: a, each: "`[1]`", batch: {path: "/{keys}"}}'], "one", "batch: needs `key`, expected the JMESPath of an item's key"),
        (['one: {upstream: a, each: "`[1]`", batch: {path: "/{keys}", by: map, key: id}}'], "one", "batch: has `key`, which `by: map` doesn't read"),
        (['one: {upstream: a, each: "`[1]`", path: /x, batch: {path: "/{keys}"}}'], "one", "has a path beside the batch's"),
        ([ONE], "one.[", "response: isn't JMESPath from its character "),
        ([ONE], "nothing(one)", ":12:18: routes[0].aggregate.response: calls nothing"),
        (["one: {upstream: a}"], "one", "has no `path`"),
        (["one: {upstream: a, path: /x, body: {a: 1}}"], "one", "expected a `method` such as POST"),
        (["one: {upstream: a, grpc: {method: s.S/M}}"], "one", "which isn't gRPC"),
        (["one: {upstream: g, grpc: {method: s.S/M}}"], "one", "without descriptors"),
        (['one: {upstream: a, path: /x, statuses: {"200": 404}}'], "one", "from 300 to 599"),
        (['one: {upstream: a, path: "/x y"}'], "one", ":11:34: routes[0].aggregate.calls.one.path: holds ' '"),
        (['one: {upstream: a, path: "/x#y"}'], "one", "path: holds '#', which must be percent-encoded"),
        (['one: {upstream: a, path: "/é?a={request.id}"}'], "one", "path: holds 'é'"),
        (['one: {upstream: a, path: "/a/../{request.id}"}'], "one", "path: has a . or .. segment"),
        (['one: {upstream: a, each: "`[1]`", path: /x}'], "one", "each: gives keys that the call doesn't name"),
        (['one: {upstream: a, each: "`[1]`", path: "/{keys}"}'], "one", "path: reads keys"),
        (['one: {upstream: a, each: "`[1]`", batch: {path: "/{key}", key: id}}'], "one", "path: reads key"),
        (['one: {upstream: a, path: /x, headers: {te: "{request.id}"}}'], "one", ":11:52: routes[0].aggregate.calls.one.headers.te: is the gateway's own"),
        (["one: {upstream: a, path: /x, headers: {Content-Length: '3'}}"], "one", "is the gateway's own to say"),
        (["one: {upstream: a, path: /x, headers: {x-gateway-depth: '0'}}"], "one", "is the gateway's own to say"),
        (["one: {upstream: a, path: /x, headers: {x-envoy-upstream-rq-timeout-ms: '9'}}"], "one", "an instruction to Envoy"),
        (["one: {upstream: a, path: /x, headers: {x-forwarded-for: a}}"], "one", "comes from elsewhere"),
        (["one: {upstream: a, path: /x, headers: {x-user: a}}"], "one", "tells who is calling"),
        (["one: {upstream: a, path: /x, fallback: {upstream: a, path: /y, headers: {upgrade: a}}}"], "one", "fallback.headers.upgrade"),
        (['one: {upstream: a, path: "/x/{request.params.ix}"}'], "one", "reads request.params.ix, and /r/{id} has no {ix}, "),
        (['one: {upstream: a, path: /x, when: "request.params.other == \'1\'"}'], "one", "has no {other}"),
        (["keys: {upstream: a, path: /x}"], "keys", "expected a name that means nothing else"),
        (["list: {upstream: a, path: /x}"], "list", "expected a name that means nothing else"),
    ],
)  # fmt: skip
def test_errors_have_a_place(
    tmp_path: Path, calls: list[str], response: str, expected: str
) -> None:
    """What is wrong, where, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        assemble(load(written(tmp_path, *calls, response=response), {}))
    assert expected in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_deadline_that_would_be_cut_short(tmp_path: Path) -> None:
    """Envoy ends what is silent for longer than five minutes."""
    file = written(tmp_path, "one: {upstream: a, path: /x}", response="one")
    text = file.read_text()
    for deadline, told in (
        ("5m", ""),
        ("301s", "aggregate.deadline: is '301s', expected at most 300s"),
    ):
        file.write_text(text.replace("aggregate:", f"aggregate:\n      deadline: {deadline}"))
        assert f"deadline: {deadline}" in file.read_text()
        if not told:
            assemble(load(file, {}))
            continue
        with pytest.raises(ConfigError) as caught:
            load(file, {})
        assert told in str(caught.value)


def test_a_message_has_the_bound_that_grpc_has(tmp_path: Path) -> None:
    """Unless the call has one of its own; other answers have that of all together."""
    method = "grpc: {method: shop.inventory.v1.Inventory/GetStock}"
    calls = (
        f"one: {{upstream: g, {method}}}",
        f"two: {{upstream: g, {method}, max_bytes: 9MiB}}",
        "three: {upstream: a, path: /}",
    )
    file = written(tmp_path, *calls, response="[one, two, three]")
    shutil.copyfile(Path(__file__).parents[2] / "examples/shop/inventory.pb", tmp_path / "i.pb")
    file.write_text(file.read_text().replace(':2"]', ':2"], descriptors: i.pb'))
    [steps] = assemble(load(file, {})).steps.values()
    [made] = [step.plugin.plan.calls for step in steps if isinstance(step.plugin, Aggregate)]
    bounds = {name: call.max_bytes for name, call in made.items()}
    assert bounds == {"one": 4 << 20, "two": 9 << 20, "three": None}


def test_what_a_message_never_is(tmp_path: Path) -> None:
    """A field that it doesn't have, and a value that a field can't have, each with its place."""
    file = written(
        tmp_path,
        "one: {upstream: g, grpc: {method: shop.inventory.v1.Inventory/GetStock, request: {skuu: 1}}}",
        "two: {upstream: g, grpc: {method: shop.inventory.v1.Inventory/GetStock, request: {sku: 1}}}",
    )
    shutil.copyfile(Path(__file__).parents[2] / "examples/shop/inventory.pb", tmp_path / "i.pb")
    file.write_text(file.read_text().replace(':2"]', ':2"], descriptors: i.pb'))
    with pytest.raises(ConfigError) as caught:
        assemble(load(file, {}))
    first, second = str(caught.value).splitlines()
    calls = "routes[0].aggregate.calls"
    assert f":11:97: {calls}.one.grpc.request.skuu: is no field of " in first
    assert first.endswith("did you mean sku?")
    assert f"{calls}.two.grpc.request.sku: has a value that the field can't have" in second
    assert second.endswith("expected string")


def test_warnings_and_the_plan(tmp_path: Path) -> None:
    """`extproc check` says both and succeeds."""
    file = written(
        tmp_path,
        "one: {upstream: a, path: /one, required: false}",
        'two: {upstream: a, path: "/{one.id}"}',
        'three: {upstream: a, path: "/{one.id}/{two.id}"}',
        "lost: {upstream: a, path: /lost}",
        response="[two, three]",
    )
    command = [sys.executable, "-m", "extproc", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ":13:" in done.stderr
    assert "lost: is read by no response and no view" in done.stderr
    assert "two: is required and waits for one, which isn't and has no default" in done.stderr
    assert done.stdout.splitlines()[1:-1] == [
        "r calls",
        "  one: GET a /one, not required",
        "    two: GET a /{one.id}",
        "      three: GET a /{one.id}/{two.id}, also waits for one",
        "  lost: GET a /lost",
    ]


def test_views_and_nobody_who_gets_them(tmp_path: Path) -> None:
    """A consumer's view that no route has is a slip of the pen."""
    more = "    response: {views: {small: one}}\n    upstream: a\n"
    more = (
        more
        + "consumers: {phones: {when: 'true', view: smal}, tablets: {when: 'true', view: small}}\n"
    )
    file = written(tmp_path, ONE, more="  - name: shaped\n    match: {path: /s}\n" + more)
    (said,) = assemble(load(file, {})).warnings
    assert str(said).endswith(
        ":17:42: consumers.phones.view: names smal, which is a view of no route, did you mean small?"
    )


@pytest.mark.parametrize(
    ("call", "warned"),
    [
        ("one: {upstream: a, path: /x, default: []}", "default: is never used, as the call is required"),
        ("one: {upstream: a, path: /x, required: false, statuses: {'404': 404}}", "statuses: is never used"),
        ("one: {upstream: a, path: /x, method: POST, stale: 1m}", "stale: is never used, as only"),
        ("one: {upstream: a, path: /x, timeout: 20s}", "timeout: is longer than the deadline"),
        ("one: {upstream: a, path: /x, max_bytes: 1GiB}", "max_bytes: is more than all parts"),
        ("one: {upstream: a, path: /x, required: false, default: 1, timeout: 1s}", ""),
    ],
)  # fmt: skip
def test_what_is_hardly_meant(call: str, warned: str, tmp_path: Path) -> None:
    """It is said, with its place."""
    said = [str(one) for one in assemble(load(written(tmp_path, call), {})).warnings]
    assert len(said) == bool(warned)
    assert all(":11:" in one and f"calls.one.{warned}" in one for one in said)


def test_who_is_calling_in_words_of_its_own(tmp_path: Path) -> None:
    """Where the gateway says nothing of it, a call may."""
    file = written(tmp_path, 'one: {upstream: a, path: /x, headers: {x-user: "u"}}')
    file.write_text(
        file.read_text().replace("    aggregate:", "    identity: none\n    aggregate:")
    )
    assert not assemble(load(file, {})).warnings


def test_what_a_client_picks_skips_no_change(tmp_path: Path) -> None:
    """With `fields` and views: of calls that change something only the file says which are made."""
    calls = (
        "order: {upstream: a, path: /x, method: POST}",
        "stock: {upstream: a, path: /s}",
        'charge: {upstream: a, path: "/x/{order.id}", method: POST}',
    )
    more = "      fields: fields\n      view: {header: x-view}\n      views: {small: order}\n"
    response = "{id: order.id, paid: charge.id, stock: stock}"
    assembly = assemble(load(written(tmp_path, *calls, response=response, more=more), {}))
    (said,) = [str(one) for one in assembly.warnings]
    assert "charge: changes something, and isn't made for each view" in said
    (made,) = (plugin for plugin in assembly.plugins() if isinstance(plugin, Aggregate))
    assert made.plan.pruned(made.plan.response, wanted_of(("id",))).calls == ("order", "charge")
    small = made.plan.views["small"]
    assert made.plan.pruned(small, wanted_of(("id",))).calls == ("order",)


@pytest.mark.parametrize(
    ("query", "changes"),
    [
        ("query Q { stock { n } }", False),
        ('{ stock(note: "mutation") { n } } # mutation', False),
        ("mutation M { charge { id } }", True),
    ],
)
def test_a_graphql_query_changes_nothing(query: str, changes: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    """Though it is a POST, it is made only where its part is wanted; a mutation always."""
    calls = ("one: {upstream: a, path: /x}", f"two: {{upstream: a, graphql: {{query: '{query}'}}}}")
    more = "      fields: fields\n"
    file = written(tmp_path, *calls, response="{one: one, two: two}", more=more)
    (made,) = (p for p in assemble(load(file, {})).plugins() if isinstance(p, Aggregate))
    pruned = made.plan.pruned(made.plan.response, wanted_of(("one",)))
    assert pruned.calls == (("one", "two") if changes else ("one",))
