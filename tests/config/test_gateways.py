"""Whole gateway files: a good one with every key, and what is wrong with changed ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from extproc.config.build import assemble
from extproc.config.errors import ConfigError
from extproc.config.load import json_schema, load
from tests.support.places import short_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = Path(__file__).parent / "gateways" / "full"
SMALL: dict[str, Any] = {
    "version": 1,
    "listener": {"address": "127.0.0.1:8080"},
    "upstreams": {"a": {"endpoints": ["http://a:1"]}},
    "authentication": {
        "s": {"jwt": {"issuer": "https://i", "audiences": ["a"], "discovery": True}}
    },
    "routes": [{"name": "r", "match": {"path": "/r"}, "upstream": "a", "authentication": "none"}],
}
JARGON = ("Input should", "input_type", "valid ", "Extra inputs", "pydantic", "Traceback", "[key]")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Return a copy of the full gateway that may be changed."""
    shutil.copytree(FULL, tmp_path / "full")
    return tmp_path / "full" / "gateway.yaml"


def changed(path: Path, old: str, new: str) -> Path:
    """Change a file at one place."""
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))
    return path


def troubles(path: Path, environment: dict[str, str] | None = None) -> list[str]:
    """Return the troubles, files named from the folder."""
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {})
    return [line.removeprefix(f"{path.parent}/") for line in str(caught.value).splitlines()]


def small(folder: Path, **parts: Any) -> Path:
    """Write the small gateway with other parts."""
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(SMALL | parts, sort_keys=False))
    return path


def route(**parts: Any) -> list[dict[str, Any]]:
    """Return one route with other parts."""
    return [SMALL["routes"][0] | parts]


def test_the_full_gateway_loads() -> None:
    """Routes, policies and upstreams of all files are one model."""
    loaded = load(FULL / "gateway.yaml", {})
    gateway = loaded.gateway
    assert [r.name for r in gateway.routes] == [
        "products",
        "order",
        "home",
        "socket",
        "everything",
        "team",
    ]
    assert set(gateway.policies) == {"orders-read", "orders-write", "team"}
    assert "team-echo" in gateway.upstreams
    assert list(gateway.listeners) == ["main"]
    assert gateway.listeners["main"] is gateway.listener
    jwt = gateway.authentication["shop"].jwt
    assert jwt is not None
    assert jwt.leeway == 0
    assert loaded.folder == FULL.resolve()


def test_every_file_that_counts_is_named() -> None:
    """For watching and copying: included, referenced, plugins; tests of policies aren't."""
    loaded = load(FULL / "gateway.yaml", {})
    assert sorted(str(file.relative_to(loaded.folder)) for file in loaded.files) == [
        "ca.crt",
        "gateway.yaml",
        "inventory.pb",
        "jwks.json",
        "plugins/tenant.py",
        "policies/orders/read.yaml",
        "policies/write.yaml",
        "teams/echo.yaml",
        "tls.crt",
        "tls.key",
    ]


def test_a_copy_has_the_same_version_and_a_change_another(full: Path) -> None:
    """Of what the files say, wherever they stand; bytes of what they name count."""
    version = load(FULL / "gateway.yaml", {}).version
    assert load(full, {}).version == version
    for name in ("jwks.json", "tls.crt", "plugins/tenant.py", "policies/write.yaml"):
        file = full.parent / name
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert load(full, {}).version != version
        file.write_bytes(before)


def test_a_copy_of_the_files_is_the_same_gateway(full: Path, tmp_path: Path) -> None:
    """Filled-in files and links are among them, so a copy of `files` loads and is the version."""
    (full.parent / "issuer").write_text("https://staff\n")
    changed(full, 'issuer: "https://staff"', 'issuer: "${file:issuer}"')
    (full.parent / "jwks.json").rename(full.parent / "keys.json")
    (full.parent / "jwks.json").symlink_to("keys.json")
    loaded = load(full, {})
    for file in loaded.files:
        copy = tmp_path / "copy" / file.relative_to(loaded.folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    assert load(tmp_path / "copy" / "gateway.yaml", {}).version == loaded.version


def test_the_schema_accepts_the_full_gateway() -> None:
    """What editors get is true, for included files' parts as for the main file."""
    Draft202012Validator(json_schema()).validate(
        json.loads(json.dumps(yaml.safe_load((FULL / "gateway.yaml").read_text())))
    )


def test_every_key_of_the_schema_is_described() -> None:
    """The reference is made of these descriptions."""
    schema = json_schema()
    for name, part in [("", schema), *schema["$defs"].items()]:
        for key, value in part.get("properties", {}).items():
            described = value.get("description") or "$ref" in value
            assert described, f"{name}.{key}"


CHANGES = {
    ("timeout: 2s", "timeout: 0s"): (
        "gateway.yaml:23:14: upstreams.users.timeout: is '0s', "
        "expected a duration such as 250ms, 2s, 5m, 1h or 30d"
    ),
    ('"http://127.0.0.1:9101", "http', '"http://127.0.0.1:9101/", "https'): (
        "gateway.yaml:22:5: upstreams.users: mixes http and https, expected one scheme"
    ),
    ('"http://127.0.0.1:9100"', '"http://u@127.0.0.1:9100"'): (
        "gateway.yaml:20:25: upstreams.catalog.endpoints[0]: is 'http://u@127.0.0.1:9100', "
        "expected http, https, grpc or grpcs://host[:port] without path"
    ),
    ("certificate: tls.crt\n", "certificate: tls.pem\n"): "listener.tls.certificate: names tls.pem",
    ("{x-user:", "{X-Request-Id:"): (
        "gateway.yaml:45:27: identity.headers.x-request-id: can't carry identity, "
        "expected another header"
    ),
    ("trusted_proxies: 1", "trusted_proxies: 17"): "trusted_proxies: is '17', expected at most 16",
    ("leeway: 0s", "refresh: 0s"): "jwt.refresh: is '0s', expected more than 0s",
    ("method: POST", "method: [POST]"): "calls.order.method: is a list, expected text",
    (
        "{set: {x-a: b}",
        "{set: {Host: b}",
    ): "is 'host', which only Envoy says, expected another header",
    (
        "set: {x-order:",
        "set: {x-envoy-max-retries:",
    ): "is 'x-envoy-max-retries', which only Envoy says",
    ("{x-beta:", "{X-Trace:"): "names X-Trace and x-trace, expected one of them",
    ("  staff: {jwt", "  none: {jwt"): "authentication.none: can't be called none",
    ("catalog: {end", "'cata log': {end"): (
        "gateway.yaml:20:3: upstreams.cata log: is 'cata log', "
        "expected a name of letters, digits, `_`, `.` and `-`"
    ),
    ("token: only-for-this-test", "token: hunter2"): (
        "gateway.yaml:16:41: admin.token: is no token, "
        "expected quoted text of at least 16 characters"
    ),
    ("[orders-read, orders-write]", "[orders-read, orders-wrote]"): (
        "gateway.yaml:68:34: routes[1].authorization[1]: names orders-wrote, "
        "which isn't a policy, did you mean orders-write?"
    ),
    ("authorization: orders-read\n", "authorization: orders-reed\n"): (
        "gateway.yaml:87:20: routes[3].authorization: names orders-reed, "
        "which isn't a policy, did you mean orders-read?"
    ),
    ("path: /socket/*", "path: /socket*"): "expected plain characters, or /* at the end",
    ("path: /products,", "path: '/products?a=b',"): "has the segment 'products?a=b'",
    ("path: /home", "path: /a/../home"): "has the segment '..', expected a normalised path",
    ('"/orders/{id}"', '"/orders/{id}/{id}"'): "has a parameter twice",
    ('"/orders/{id}"', '"/orders/x{id}"'): "expected {name} as a whole segment",
    (
        "methods: any",
        "methods: []",
    ): "is an empty list, expected a list such as [GET, POST], or any",
    ("methods: [GET]", "methods: [get]"): "has 'get', expected methods in capitals such as GET",
    (
        "jwks: jwks.json",
        "jwks: jwks.json, discovery: true",
    ): "names discovery and jwks, expected one",
    ("compression: [br,", "compression: [lz4,"): "is 'lz4', expected 'br', 'gzip' or 'zstd'",
    ("plugins/tenant.py:Tenant", "plugins/absent.py:Tenant"): "names plugins/absent.py, which",
    ("plugins/tenant.py:Tenant", "Tenant"): "expected module:Class or file.py:Class",
    ("include: [teams/*.yaml]", "include: [teams/*.yml]"): "include[0]: matches no file",
    ("include: [teams/*.yaml]", "include: [../*.yaml]"): "include[0]: leaves the folder",
    ("policies: policies/", "policies: polices/"): "policies: names polices/, which doesn't exist",
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_mistake_has_its_words(change: tuple[str, str], full: Path) -> None:
    """One trouble with its place, in words."""
    found = [line for line in troubles(changed(full, *change)) if CHANGES[change] in line]
    assert len(found) == 1, troubles(full)
    assert not any(word in found[0] for word in JARGON)


def test_what_is_not_built_is_told_beside_other_mistakes(full: Path) -> None:
    """Both at once, and nothing about what the refused key left incomplete."""
    changed(full, "view: mobile}\n", "view: mobile, plan: gold}\n")
    changed(full, "upstream: things", "upstrem: things")
    refused, unknown = troubles(full)
    problem = "consumers.mobile.plan: isn't built yet in this version, take it out"
    assert refused == f"gateway.yaml:47:78: {problem}"
    assert unknown == ("gateway.yaml:85:5: routes[3].upstrem: unknown key, did you mean upstream?")


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ({"listeners": {}}, "listeners"),
        ({"plans": {}}, "plans"),
        ({"routes": route(deadline="2s")}, "routes[0].deadline"),
        ({"routes": route(grpc={})}, "routes[0].grpc"),
    ],
)
def test_what_is_not_built_is_refused_by_name(
    parts: dict[str, Any], key: str, tmp_path: Path
) -> None:
    """Not ignored, not called unknown."""
    (found,) = troubles(small(tmp_path, **parts))
    assert f"{key}: isn't built yet in this version" in found


def test_included_files_are_all_judged(full: Path) -> None:
    """One broken file doesn't hide the next one's troubles; each is named by its own path."""
    (full.parent / "teams" / "a.yaml").write_text("listener: {}\n")
    (full.parent / "teams" / "b.yaml").write_text("routes: [\n")
    (full.parent / "teams" / "c.yaml").write_text("- a\n")
    found = troubles(full)
    assert found[0].startswith("teams/a.yaml:1:1: listener: can't be included, expected routes")
    assert found[1].startswith("teams/b.yaml:2:1: isn't YAML")
    assert found[2] == "teams/c.yaml:1:1: is no mapping"


def test_a_file_that_two_globs_name_is_read_once(full: Path) -> None:
    """It can't collide with itself."""
    changed(full, "include: [teams/*.yaml]", "include: [teams/*.yaml, teams/echo.yaml]")
    assert len(load(full, {}).gateway.routes) == 6


def test_policies_in_two_files_collide(full: Path) -> None:
    """The error names both places."""
    shutil.copyfile(full.parent / "policies/write.yaml", full.parent / "policies/zweite.yaml")
    (found,) = troubles(full)
    assert found.startswith("policies/zweite.yaml:2:3: policies.orders-write: is there twice, ")
    assert found.endswith("policies/write.yaml:2")


@pytest.mark.parametrize("where", ["policies", "teams"])
def test_links_to_files_elsewhere_are_refused(where: str, full: Path, tmp_path: Path) -> None:
    """What is read stays below the gateway file's folder."""
    (tmp_path / "outside.yaml").write_text("policies: {}\n")
    (full.parent / where / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (found,) = troubles(full)
    assert found == f"{where}/link.yaml:1:1: isn't below the gateway file's folder"


@pytest.mark.parametrize("folder", ["a\0b", "x" * 5000, "/etc", "..", "gateway.yaml"])
def test_no_folder_of_policies(folder: str, tmp_path: Path) -> None:
    """Whatever it names, it is one trouble."""
    (found,) = troubles(small(tmp_path, policies=folder))
    assert found.startswith("gateway.yaml:")
    assert ": policies: names " in found


def test_many_included_routes_load_soon(tmp_path: Path) -> None:
    """Merging and comparing don't grow with the square of the routes."""
    routes = [
        {"name": f"r{n}", "match": {"path": f"/r/{n}"}, "upstream": "a", "authentication": "none"}
        for n in range(1500)
    ]
    (tmp_path / "team.yaml").write_text(json.dumps({"routes": routes}, indent=1))
    gateway = load(small(tmp_path, include="team.yaml"), {}).gateway
    assert len(gateway.routes) == 1501


def _places(data: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in items:
        yield (*key, name)
        if isinstance(value, dict | list):
            yield from _places(value, (*key, name))


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["none", "any", "..", "/", "//", "/{a}", "${env:X}", "1s", "a" * 5000, "\0"]),
    st.lists(st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=3),
)
ABSENT = object()
MAIN = yaml.safe_load((FULL / "gateway.yaml").read_text())


@given(st.sampled_from(sorted(_places(MAIN), key=str)), ODD | st.just(ABSENT))
@example(("routes", 4, "aggregate", "calls", "order", "method"), [])
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_is_a_gateway_or_an_error_in_words(
    place: tuple[str | int, ...], value: object
) -> None:
    """Every key of a good file, replaced or taken out: errors are ours, placed, one per line."""
    with short_folder() as folder:
        shutil.copytree(FULL, folder, dirs_exist_ok=True)
        path = folder / "gateway.yaml"
        path.write_text(yaml.safe_dump(_replaced(place, value), sort_keys=False))
        error = _error(path)
    if error is not None:
        assert len(str(error).split("\n")) == len(error.troubles)
        for trouble in error.troubles:
            assert min(trouble.at.line, trouble.at.column) >= 1
            assert trouble.problem
            assert not any(word in str(trouble).replace("invalid", "") for word in JARGON)


def _replaced(place: tuple[str | int, ...], value: object) -> Any:
    data = json.loads(json.dumps(MAIN))
    parent = data
    for part in place[:-1]:
        parent = parent[part]
    if value is ABSENT:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return data


def _error(path: Path) -> ConfigError | None:
    try:
        load(path, {})
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize(
    "kind",
    [
        "mtls: {}",
        "jwt: {issuer: 'https://i', audiences: [a], discovery: true, proof: certificate}",
    ],
)
def test_certificates_that_nobody_asks_for(kind: str, tmp_path: Path) -> None:
    """`extproc check` warns: with `run` nobody could be known by one."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        'version: 1\nlistener: {address: "127.0.0.1:1"}\nroutes:\n'
        "  - {name: r, match: {path: /r}, upstream: u, authentication: none}\n"
        f"authentication:\n  mesh: {{{kind}}}\n"
        'upstreams: {u: {endpoints: ["http://127.0.0.1:2"]}}\n'
    )
    warned = [str(warning) for warning in assemble(load(file, {})).warnings]
    (said,) = warned
    assert ":6:" in said
    assert "authentication.mesh: reads client certificates" in said


def test_files_of_keys_and_users_are_named_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where the command was given, so that an editor finds the line."""
    folder = tmp_path / "gw"
    (folder / "who").mkdir(parents=True)
    (folder / "gateway.yaml").write_text(
        'version: 1\nlistener: {address: "127.0.0.1:1"}\n'
        "authentication:\n  keys: {api_key: {file: who/keys.jsonl}}\n"
        "  ops: {basic: {file: who/users}}\n"
        'upstreams: {u: {endpoints: ["http://127.0.0.1:2"]}}\nroutes:\n'
        "  - {name: r, match: {path: /r}, upstream: u, authentication: [keys, ops]}\n"
    )
    (folder / "who" / "keys.jsonl").write_text("\nnothing\n")
    (folder / "who" / "users").write_text("nothing\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        assemble(load(Path("gw/gateway.yaml"), {}))
    places = [f"{trouble.at.file}:{trouble.at.line}" for trouble in caught.value.troubles]
    assert places == ["gw/who/keys.jsonl:2", "gw/who/users:1"]


@pytest.mark.parametrize(
    ("written", "told"),
    [("1s", "is '1s', expected at least 2s"), ("2h", "is '2h', expected at most 3600s")],
)
def test_a_bound_of_a_duration(written: str, told: str, tmp_path: Path) -> None:
    """In seconds, and the value as it is written."""
    (tmp_path / "key.pem").write_text("")
    file = tmp_path / "gateway.yaml"
    identity = {"assertion": {"key": "key.pem", "ttl": written}}
    file.write_text(json.dumps(SMALL | {"identity": identity}))
    assert f"identity.assertion.ttl: {told}" in str(_error(file))
