"""What is in a cached route's key is read off the file; what can't be shared is refused."""

# ruff: noqa: E501 - a route of the gateway files below is one line

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extproc.caching.cookies import OnlyCookies
from extproc.caching.invalidation import Invalidate
from extproc.caching.plugin import Cache
from extproc.config.build import Assembly, assemble
from extproc.config.errors import ConfigError
from extproc.config.load import load
from extproc.core.headers import Headers
from extproc.core.principal import Principal
from extproc.core.values import Request

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
version: 1
listener: {address: "127.0.0.1:1"}
upstreams: {up: {endpoints: ["http://127.0.0.1:9"]}, passing: {endpoints: ["http://127.0.0.1:9"], forward_credentials: true}}
authentication: {keys: {api_key: {file: keys.jsonl}}}
identity: {headers: {IDENTITY}}
consumers: {mobile: {when: "true", view: small}}
defaults: {authentication: AUTHENTICATION}
routes:
  - {name: r, match: {path: /r/*, methods: [GET]}, ROUTE}
"""
USER = 'x-user: "{principal.subject}"'


def built(folder: Path, route: str, identity: str = "", authentication: str = "keys") -> Assembly:
    """Build a gateway with one route."""
    (folder / "keys.jsonl").write_text("")
    file = folder / "gateway.yaml"
    text = TEXT.replace("IDENTITY", identity).replace("AUTHENTICATION", authentication)
    file.write_text(text.replace("ROUTE", route))
    return assemble(load(file, {}))


def parts(assembly: Assembly) -> list[str]:
    """Return the names of what is in the key of the route."""
    (cache,) = (p for p in assembly.plugins() if isinstance(p, Cache))
    return [name for name, _ in cache.key.parts] + [f"secret {n}" for n in cache.key.secrets]


COOKIE = ["secret authorization", "secret cookie"]
ASSERTED = [
    f"principal.{name}" for name in ("authenticator", "kind", "subject", "issuer", "scopes")
]


@pytest.mark.parametrize(
    ("route", "identity", "authentication", "expected"),
    [
        ("upstream: up, cache: {}", "", "none", COOKIE),
        ("upstream: up, cache: {}", USER, "none", ["principal.subject", *COOKIE]),
        ("upstream: up, cache: {}", USER, "keys", ["principal.subject", *COOKIE]),
        ("upstream: up, cache: {}", "", "keys", [*ASSERTED, "consumer", *COOKIE]),
        ("upstream: up, identity: none, cache: {}", USER, "keys", [*ASSERTED, "consumer", *COOKIE]),
        ("upstream: up, identity: none, cache: {shared: true}", USER, "keys", []),
        (
            "upstream: up, cache: {}",
            """x: '{principal.subject + "-admin" in principal.claims}'""",
            "keys",
            ["principal.subject", "principal.claims", *COOKIE],
        ),
        (
            "upstream: up, cache: {}",
            "x: '{principal.claims.a}'",
            "keys",
            ["principal.claims.a", *COOKIE],
        ),
        (
            "upstream: up, cache: {}, request: {headers: {set: {x: '{request.address}'}}}",
            "",
            "none",
            ["request.address", *COOKIE],
        ),
        (
            "upstream: up, cache: {}, response: {headers: {set: {x: '{request.headers.y}'}}}",
            "",
            "none",
            ["request.headers.y", *COOKIE],
        ),
        (
            "upstream: up, cache: {}, rewrite: {path: '/{consumer}'}",
            "",
            "none",
            ["consumer", *COOKIE],
        ),
        (
            "upstream: up, cache: {}, response: {headers: {set: {x: '{request.id} {request.path}'}}}",
            "",
            "none",
            COOKIE,
        ),
        (
            "upstream: up, cache: {}, response: {body: '@', views: {small: 'a'}}",
            "",
            "none",
            ["view", *COOKIE],
        ),
        ("upstream: passing, cache: {}", "", "none", [*COOKIE, "secret x-api-key"]),
        (
            "upstream: up, cache: {}, rewrite: {path: '/{string(request.headers.exists(h, true))}'}",
            "",
            "none",
            ["request.headers", *COOKIE],
        ),
        (
            "upstream: up, cache: {}, rewrite: {path: '/{string(principal.claims.exists(c, true))}'}",
            "",
            "none",
            ["principal.claims", *COOKIE],
        ),
    ],
)
def test_what_is_in_the_key(
    route: str, identity: str, authentication: str, expected: list[str], tmp_path: Path
) -> None:
    """Exactly what is read behind the cache."""
    assert sorted(parts(built(tmp_path, route, identity, authentication))) == sorted(expected)


PARAMETERS = [
    ("upstream: up, rewrite: {path: '/x/{request.query.sort}'}", ["sort"]),
    ("upstream: up, rewrite: {path: '/x/{request.query.page}'}", []),
    ("upstream: up, response: {headers: {set: {x: '{request.query[\"sort\"]}'}}}", ["sort"]),
    ("upstream: up, request: {headers: {set: {x: '{request.queries.sort[0]}'}}}", ["sort"]),
    (
        "aggregate: {calls: {a: {upstream: up, path: '/x?s={request.query.sort}'}}, response: a, views: {small: a}, view: {query: view}, fields: fields}",
        ["fields", "sort", "view"],
    ),
    (
        "aggregate: {calls: {a: {upstream: up, each: 'request.queries.sort', path: '/x/{key}'}}, response: a}",
        ["sort"],
    ),
    (
        "aggregate: {calls: {a: {upstream: up, each: 'split(request.queries.sort[0], `0`) || request.queries.[id, sort][]', path: '/x/{key}'}}, response: a}",
        ["id", "sort"],
    ),
]


@pytest.mark.parametrize(("route", "expected"), PARAMETERS)
def test_parameters_that_the_gateway_reads(route: str, expected: list[str], tmp_path: Path) -> None:
    """Are in the key, whatever counts beside them; a whole query has them all."""
    names = [f"request.query.{name}" for name in expected]
    found = parts(built(tmp_path, f"cache: {{key: {{query: [page]}}}}, {route}"))
    assert sorted(name for name in found if name.startswith("request.query")) == names
    found = parts(built(tmp_path, f"cache: {{}}, {route}"))
    assert not any(name.startswith("request.query") for name in found)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("page=1", "page=1&sort=a", False),
        ("page=1&sort=b", "page=1&sort=a", False),
        ("page=1", "page=1&%73ort=a", False),
        ("page=1", "page=1;sort=a", False),
        ("page=1&utm=1", "page=1&utm=2", True),
        ("sort=a&page=1", "page=1&sort=a", True),
    ],
)
def test_what_is_read_makes_a_difference(one: str, two: str, same: bool, tmp_path: Path) -> None:  # noqa: FBT001 - one case
    """Under every name, as for those that the route counts."""
    (cache,) = (
        plugin
        for plugin in built(
            tmp_path, f"cache: {{key: {{query: [page]}}}}, {PARAMETERS[0][0]}", "", "none"
        ).plugins()
        if isinstance(plugin, Cache)
    )
    keys = [cache.key.of(request(target=f"/r/x?{query}")) for query in (one, two)]
    assert (keys[0] == keys[1]) is same
    uris = {cache.key.uri(request(target=f"/r/x?{query}")) for query in (one, two)}
    assert len(uris) == 1 or "page" in "".join(set(one.split("&")) ^ set(two.split("&")))


@pytest.mark.parametrize(
    "route",
    [
        "upstream: up, rewrite: {path: '/x/{request.query[request.method]}'}",
        "upstream: up, response: {headers: {set: {x: '{string(size(request.queries))}'}}}",
        "aggregate: {calls: {a: {upstream: up, path: /x, when: 'request.query.all(k, true)'}}, response: a}",
        "aggregate: {calls: {a: {upstream: up, each: 'keys(request.queries)', path: '/x/{key}'}}, response: a}",
        "aggregate: {calls: {a: {upstream: up, each: 'request.queries.*[]', path: '/x/{key}'}}, response: a}",
        "aggregate: {calls: {a: {upstream: up, each: 'request | queries.a', path: '/x/{key}'}}, response: a}",
        "aggregate: {calls: {a: {upstream: up, each: 'request.[queries.a, params.b][]', path: '/x/{key}'}}, response: a}",
    ],
)
def test_a_query_that_is_read_as_a_whole_is_refused(route: str, tmp_path: Path) -> None:
    """Where only some of it counts: it can't be told what makes a difference."""
    built(tmp_path, f"cache: {{}}, {route}")
    with pytest.raises(ConfigError) as caught:
        built(tmp_path, f"cache: {{key: {{query: [page]}}}}, {route}")
    (trouble,) = caught.value.troubles
    assert (trouble.key, trouble.at.line) == ("routes[0].cache.key.query", 10)
    assert "request.query as a whole" in trouble.problem


def test_aggregates(tmp_path: Path) -> None:
    """Every call's expressions, the identity it sends, the view, the language that goes along."""
    route = (
        "cache: {}, aggregate: {calls: {a: {upstream: up, path: '/{request.address}'}}, "
        "response: a, views: {small: a.b}}"
    )
    found = parts(built(tmp_path, route, USER))
    assert found == ["accept-language", "view", "request.address", "principal.subject"]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (
            "a: {upstream: up, path: /x, method: POST, body: {who: '{principal.subject}'}}",
            "principal.subject",
        ),
        ("a: {upstream: up, path: /x, headers: {x: '{principal.claims.t}'}}", "principal.claims.t"),
        (
            "a: {upstream: up, path: /x, required: false, fallback: {upstream: up, path: '/{request.address}'}}",
            "request.address",
        ),
        ("a: {upstream: passing, path: /x}", "credentials.x-api-key"),
        ("a: {upstream: up, path: /x, when: 'consumer == \"mobile\"'}", "consumer"),
        (
            "b: {upstream: up, path: /b}, a: {upstream: up, each: 'b.items[].id', path: '/x/{key}?s={principal.kind}'}",
            "principal.kind",
        ),
    ],
)
def test_every_place_of_an_aggregate(calls: str, expected: str, tmp_path: Path) -> None:
    """Bodies, headers, fallbacks, conditions, keys, forwarded credentials."""
    aggregate = f"aggregate: {{calls: {{{calls}}}, response: a}}"
    assert parts(built(tmp_path, f"cache: {{}}, {aggregate}")) == ["accept-language", expected]
    with pytest.raises(ConfigError):
        built(tmp_path, f"cache: {{shared: true}}, {aggregate}")


@pytest.mark.parametrize(
    ("route", "identity", "problem"),
    [
        ("upstream: up, cache: {shared: true}", USER, "reads principal.subject"),
        (
            "upstream: up, cache: {shared: true}, response: {body: '@', views: {small: 'a'}}",
            "",
            "reads view",
        ),
        ("upstream: passing, cache: {shared: true}", "", "gets the client's credentials"),
        ("upstream: up, cache: {shared: true, cookies: [a]}", "", "gets cookies"),
        (
            "upstream: up, cache: {shared: true}, rewrite: {path: '/{request.address}'}",
            "",
            "reads request.address",
        ),
    ],
)
def test_what_can_not_be_shared_is_refused(
    route: str, identity: str, problem: str, tmp_path: Path
) -> None:
    """With its place."""
    with pytest.raises(ConfigError) as caught:
        built(tmp_path, route, identity)
    (trouble,) = caught.value.troubles
    assert trouble.key == "routes[0].cache.shared"
    assert trouble.at.line == 10
    assert problem in trouble.problem


def request(**changes: str) -> Request:
    """Return a request."""
    headers = Headers(
        [(name.replace("_", "-"), value) for name, value in changes.items() if name != "target"]
    )
    return Request(host="shop", target=changes.get("target", "/r/1"), headers=headers)


def test_declared_parameters_and_headers(tmp_path: Path) -> None:
    """Others make no difference; the order of parameters neither."""
    route = "upstream: up, cache: {key: {query: [a, b], headers: [X-Tenant]}}"
    (cache,) = (p for p in built(tmp_path, route).plugins() if isinstance(p, Cache))
    of = cache.key.whole
    same = request(target="/r/1?b=2&a=1&utm=x", x_tenant="t", x_other="1")
    assert of(same) == of(request(target="/r/1?a=1&b=2", x_tenant="t"))
    for other in (
        request(target="/r/1?a=1&b=3", x_tenant="t"),
        request(target="/r/1?a=1&b=2", x_tenant="u"),
        request(target="/r/1?a=1&a=1&b=2", x_tenant="t"),
        request(target="/r/1?a=1&b=2", x_tenant="t", cookie="a=b"),
    ):
        assert of(other) != of(same)


def test_secrets_are_digests(tmp_path: Path) -> None:
    """No key holds a credential or a cookie."""
    (cache,) = (
        p for p in built(tmp_path, "upstream: up, cache: {}").plugins() if isinstance(p, Cache)
    )
    key = cache.key.whole(request(authorization="Bearer canary", cookie="s=canary"))
    assert "canary" not in repr(key)


def test_two_principals_with_equal_inputs_share(tmp_path: Path) -> None:
    """Where only scopes go upstream."""
    identity = "x-scopes: '{principal.scopes.join(\" \")}'"
    (cache,) = (
        p
        for p in built(tmp_path, "upstream: up, cache: {}", identity).plugins()
        if isinstance(p, Cache)
    )
    found = []
    for subject, scopes in (("alice", ("a",)), ("bob", ("a",)), ("carol", ("b",))):
        one = request()
        one.principal = Principal("jwt", "shop", subject, "issuer", scopes)
        found.append(cache.key.whole(one))
    assert found[0] == found[1] != found[2]


def test_only_named_cookies_pass() -> None:
    """And none on a shared route."""
    for names, expected in ((("b",), "b=2"), ((), None), (("a", "c"), "a=1; c=3=3")):
        one = request(cookie="a=1; b=2;c=3=3 ; bb=4")
        OnlyCookies(names=names).on_request(one)
        assert one.headers.get("cookie") == expected


@pytest.mark.parametrize(
    ("match", "invalidates"),
    [
        ("{path: /r/*, methods: [POST]}", True),
        ("{path: '/{x}/7', methods: [DELETE]}", True),
        ("{path: /*, methods: any}", True),
        ("{path: /r/7}", True),
        ("{path: /s/*, methods: [POST]}", False),
        ("{path: /r, methods: [POST]}", False),
        ("{path: '/r/{x}', methods: [OPTIONS]}", False),
        ("{path: '/r/{x}', methods: [PUT], host: other}", True),
    ],
)
def test_which_routes_invalidate(match: str, invalidates: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter of a test
    """Those that overlap and take methods that may change something."""
    route = "upstream: up, cache: {}}\n  - {name: w, match: " + match + ", upstream: up"
    plugins = built(tmp_path, route).steps["w"]
    assert any(isinstance(step.plugin, Invalidate) for step in plugins) is invalidates


def test_a_header_whose_name_is_computed(tmp_path: Path) -> None:
    """With it all headers are in the key, and so is the id: `check` says that nothing is found."""
    computed = "upstream: up, cache: {}, request: {headers: {set: {x-y: '{request.headers[request.host]}'}}}"

    def said(route: str) -> list[str]:
        return [w for w in map(str, built(tmp_path, route).warnings) if "routes[0]" in w]

    (one,) = said(computed)
    assert "routes[0].cache: finds nothing again" in one
    assert not said(computed.replace("[request.host]", '["x-org"]'))


def test_none_is_a_window(tmp_path: Path) -> None:
    """What is 0 where it isn't said can be said to be 0."""
    none = "wait: 0s, min_ttl: 0s, stale_while_revalidate: 0s, stale_if_error: 0s"
    (cache,) = (
        plugin
        for plugin in built(tmp_path, f"upstream: up, cache: {{ttl: 1m, {none}}}").plugins()
        if isinstance(plugin, Cache)
    )
    assert cache.wait == 0
