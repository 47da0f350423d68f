"""The compiler: what Envoy gets for a gateway file."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.adapters.envoy_binary import binary
from extproc.config.build import assemble
from extproc.config.load import load
from extproc.core.routes import PathPattern
from extproc.envoy_config import compile as compiler
from extproc.envoy_config.covering import wider_paths
from extproc.envoy_config.matching import in_order, refused_methods, spellings
from extproc.envoy_config.shapes import Facts
from tests.support.certificates import made
from tests.support.processes import ROOT, head

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = sorted((ROOT / "examples").rglob("gateway.yaml"))
FACTS = Facts(("unix:/tmp/s0", "unix:/tmp/s1"), "unix:/tmp/e", "unix:/tmp/a", "")


def compiled(path: Path) -> Any:
    """Return the whole bootstrap of a gateway file."""
    assembly = assemble(load(path, {}))
    loaded = assembly.loaded
    return compiler.static(loaded.gateway, assembly.modes, FACTS, loaded.version)


def validated(config: Any, folder: Path) -> None:
    """Have Envoy validate a configuration, and complain of nothing."""
    file = folder / "envoy.json"
    file.write_text(json.dumps(config))
    done = subprocess.run(
        [binary(None), "--mode", "validate", "-c", str(file), "--log-level", "warning"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Deprecated" not in done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.parent.name)
def test_envoy_accepts_every_example(path: Path, tmp_path: Path) -> None:
    """Whole, and in the files that a supervised Envoy reads."""
    validated(compiled(path), tmp_path)
    assembly = assemble(load(path, {}))
    facts = Facts(FACTS.service, FACTS.egress, FACTS.admin, str(tmp_path))
    files = compiler.files(assembly.loaded.gateway, assembly.modes, facts, assembly.loaded.version)
    for name in ("clusters", "listeners", "routes", "egress"):
        (tmp_path / f"{name}.json").write_text(json.dumps(getattr(files, name)))
    validated(compiler.bootstrap(facts), tmp_path)


def gateway(folder: Path, routes: str, more: str = "") -> Path:
    """Write a gateway file with these routes."""
    path = folder / "gateway.yaml"
    path.write_text(
        head(8080, 9900)
        + "upstreams: {echo: {endpoints: ['http://127.0.0.1:9108'], retries: 1}}\n"
        + "defaults: {authentication: none}\n"
        + more
        + "routes:\n"
        + routes
    )
    return path


def entries(config: Any) -> list[Any]:
    """Return Envoy's routes of the first virtual host."""
    for listener in config["static_resources"]["listeners"]:
        if listener["name"] == "ingress":
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            found: list[Any] = manager["route_config"]["virtual_hosts"][0]["routes"]
            return found
    raise AssertionError("no ingress")


def test_each_route_accepts_only_its_own_verdict(tmp_path: Path) -> None:
    """P13: a request that changes its route is refused there."""
    routes = "  - {name: a, match: {path: /a}, upstream: echo}\n"
    path = gateway(tmp_path, routes + "  - {name: b, match: {path: /b}, upstream: echo}\n")
    version = load(path, {}).version
    for entry in entries(compiled(path)):
        if "route" in entry:
            text = json.dumps(entry["typed_per_filter_config"]["envoy.filters.http.rbac"])
            key = f"{entry['name']}@{version}"
            assert f'"exact": "{key}"' in text
            assert entry["metadata"]["filter_metadata"]["extproc"]["id"] == key


def test_no_reachable_route_is_without_its_filters(tmp_path: Path) -> None:
    """F7: every route that has an upstream asks the service and needs its verdict."""
    path = gateway(tmp_path, "  - {name: a, match: {path: /*, methods: any}, upstream: echo}\n")
    for entry in entries(compiled(path)):
        if "route" in entry:
            filters = entry["typed_per_filter_config"]
            mode = filters["envoy.filters.http.ext_proc"]["overrides"]["processing_mode"]
            assert mode["request_header_mode"] == "SEND"
            assert "rbac" in filters["envoy.filters.http.rbac"]


def test_a_switch_of_protocols_passes_the_same_filters(tmp_path: Path) -> None:
    """F7: only the limit of bodies isn't among them."""
    config = compiled(gateway(tmp_path, "  - {name: a, match: {path: /a}, upstream: echo}\n"))
    [ingress] = [one for one in config["static_resources"]["listeners"] if one["name"] == "ingress"]
    manager = ingress["filter_chains"][0]["filters"][0]["typed_config"]
    [upgrade] = manager["upgrade_configs"]
    [limit, *others] = manager["http_filters"]
    assert limit["name"] == "envoy.filters.http.body_size_limit"
    assert upgrade["filters"] == others


@pytest.mark.parametrize(
    ("more", "modes"),
    [
        ("", {"request_header_mode": "SEND", "response_header_mode": "SKIP"}),
        (
            ", response: {headers: {remove: [server]}}",
            {"response_header_mode": "SEND"},
        ),
        (
            ', response: {body: "@"}',
            {"response_header_mode": "SEND", "response_body_mode": "BUFFERED"},
        ),
        (
            ", cache: {ttl: 1s}",
            {"response_header_mode": "SEND"},
        ),
        (', request: {body: "@"}', {"request_body_mode": "BUFFERED"}),
    ],
)
def test_a_route_pays_for_what_it_uses(more: str, modes: dict[str, str], tmp_path: Path) -> None:
    """The processing mode is derived from the hooks of the chain."""
    path = gateway(tmp_path, f"  - {{name: a, match: {{path: /a}}, upstream: echo{more}}}\n")
    overrides = entries(compiled(path))[0]["typed_per_filter_config"][
        "envoy.filters.http.ext_proc"
    ]["overrides"]
    mode = overrides["processing_mode"]
    assert {name: mode.get(name, "NONE") for name in modes} == modes
    for side in ("request", "response"):
        waits = mode.get(f"{side}_body_mode") == "BUFFERED"
        assert mode[f"{side}_trailer_mode"] == ("SEND" if waits else "SKIP")


def test_the_filter_itself_is_off_and_closed(tmp_path: Path) -> None:
    """Traffic that takes no route never reaches the service, and nothing fails open."""
    path = gateway(tmp_path, "  - {name: a, match: {path: /a}, upstream: echo}\n")
    config = compiled(path)
    filters = {f["name"]: f for f in compiler.part_of(config, "filters")}
    ext_proc = filters["envoy.filters.http.ext_proc"]["typed_config"]
    assert not ext_proc.get("failure_mode_allow")
    assert ext_proc["processing_mode"]["request_header_mode"] == "SKIP"
    assert not any("xds.node" in name for name in ext_proc["request_attributes"])
    names = list(filters)
    assert names.index("envoy.filters.http.compressor.gzip") < names.index(
        "envoy.filters.http.ext_proc"
    )
    assert names.index("envoy.filters.http.ext_proc") < names.index("envoy.filters.http.rbac")


def test_unsafe_methods_are_retried_only_if_nothing_arrived(tmp_path: Path) -> None:
    """A POST is never sent twice to an upstream that may have it."""
    path = gateway(tmp_path, "  - {name: a, match: {path: /a}, upstream: echo}\n")
    for entry in entries(compiled(path)):
        if "route" not in entry:
            continue
        methods = json.dumps(entry["match"]["headers"])
        retry = entry["route"]["retry_policy"]["retry_on"]
        assert ("POST" in methods) == ("gateway-error" not in retry)


def test_order_and_methods(tmp_path: Path) -> None:
    """Literal before parameter before rest; 405 with what is allowed, after every route."""
    routes = [
        ("rest", "/*", "[PUT]"),
        ("deep", "/a/*", "[GET]"),
        ("one", "/a/{x}", "[POST]"),
        ("exact", "/a/b", "[GET]"),
    ]
    text = "".join(
        f'  - {{name: {n}, match: {{path: "{p}", methods: {m}}}, upstream: echo}}\n'
        for n, p, m in routes
    )
    model = load(gateway(tmp_path, text), {}).gateway.routes
    assert [route.name for route in in_order(model)] == ["exact", "one", "deep", "rest"]
    allowed = {refused.path: refused.allow for refused in refused_methods(model)}
    assert set(allowed["/a/b"]) == {"GET", "HEAD", "POST", "PUT"}
    assert set(allowed["/*"]) == {"PUT"}


def test_a_route_of_many_hosts_is_compiled_once(tmp_path: Path) -> None:
    """Else a thousand routes and a dozen hosts take minutes, at each start and each reload."""
    hosts = [f"h{number}.example.com" for number in range(9)]
    text = "".join(
        f"  - {{name: own-{h}, match: {{path: /o, host: {h}}}, upstream: echo}}\n" for h in hosts
    )
    text += "".join(
        f'  - {{name: r{n}, match: {{path: "/r{n}/{{x}}", methods: [GET]}}, upstream: echo}}\n'
        for n in range(9)
    )
    assembly = assemble(load(gateway(tmp_path, text), {}))
    files = compiler.files(assembly.loaded.gateway, assembly.modes, FACTS, "v")
    [table] = files.routes["resources"]
    repeated = [entry for host in table["virtual_hosts"] for entry in host["routes"]]
    assert len(table["virtual_hosts"]) == len(hosts) + 1
    written = {json.dumps(entry) for entry in repeated}
    assert len({id(entry) for entry in repeated}) == len(written) < len(repeated) / 3


@pytest.mark.parametrize(
    "later",
    [
        "aggregate: {deadline: 30s, calls: {a: {upstream: echo, path: /a}}, response: a}",
        "upstream: echo, plugins: [{use: 'slow.py:Slow', deadline: 2h}]",
        "upstream: echo, authentication: [mesh]",
    ],
)
def test_a_route_needs_nothing_of_a_listener_that_is_not_there(tmp_path: Path, later: str) -> None:
    """Open connections keep the listener they came by, and take the routes of later versions."""
    made_up = made("gateway")
    for name, text in (("tls.crt", made_up.pem), ("tls.key", made_up.key_pem)):
        (tmp_path / name).write_text(text)
    plugin = "from extproc import Plugin\n\n\nclass Slow(Plugin):\n    pass\n"
    (tmp_path / "slow.py").write_text(plugin)
    path = tmp_path / "gateway.yaml"

    def listeners(route: str, more: str) -> Any:
        path.write_text(
            "version: 1\n"
            "listener: {address: '127.0.0.1:8443', tls: "
            "{certificate: tls.crt, private_key: tls.key, client_ca: tls.crt}}\n"
            "upstreams: {echo: {endpoints: ['http://127.0.0.1:9108']}}\n"
            f"{more}defaults: {{authentication: none}}\n"
            "routes:\n"
            "  - {name: a, match: {path: /a}, upstream: echo}\n"
            f"  - {{name: b, match: {{path: /b}}, {route}}}\n"
        )
        assembly = assemble(load(path, {}))
        files = compiler.files(assembly.loaded.gateway, assembly.modes, FACTS, "v")
        return files.listeners

    assert listeners("upstream: echo", "") == listeners(
        later, "authentication: {mesh: {mtls: {}}}\n"
    )


@pytest.mark.parametrize(
    ("wider", "narrower", "does"),
    [
        ("/*", "/a", True),
        ("/a/*", "/a", False),
        ("/a/*", "/a/{x}", True),
        ("/{x}", "/a", True),
        ("/a", "/{x}", False),
        ("/{x}/*", "/a/*", True),
        ("/a/b", "/a/*", False),
    ],
)
def test_covering(wider: str, narrower: str, *, does: bool) -> None:
    """Whether every path of one pattern is one of another."""
    assert (wider in wider_paths([wider, narrower])[narrower]) == does
    if does and "*" not in narrower:
        assert PathPattern.parse(wider).matches(narrower.replace("{x}", "q"))


_SEGMENTS = st.lists(st.sampled_from(["a", "b", "{x}", "{y}"]), min_size=1, max_size=3)
_BELOW = st.builds("/{}{}".format, _SEGMENTS.map("/".join), st.sampled_from(["", "/*"]))
_PATTERNS = _BELOW | st.sampled_from(["/", "/*"])


@given(st.lists(_PATTERNS, max_size=12))
def test_a_pattern_covers_another_if_it_has_all_its_paths(patterns: list[str]) -> None:
    """By the paths themselves: of these segments, one that no pattern names, and an empty one."""
    paths, level = {"/"}, [""]
    for _ in range(5):
        level = [f"{path}/{segment}" for path in level for segment in ("a", "b", "q")]
        paths |= {*level, *[f"{path}/" for path in level]}
    of = {text: set(filter(PathPattern.parse(text).matches, paths)) for text in patterns}
    found = wider_paths(patterns)
    for narrow in patterns:
        assert found[narrow] == {wide for wide in patterns if of[narrow] <= of[wide]}


@pytest.mark.parametrize(
    ("methods", "custom"),
    [("[GET, POST]", False), ("[QUERY]", False), ("[M-SEARCH]", True), ("any", True)],
)
def test_methods_that_the_parser_does_not_know(
    tmp_path: Path, methods: str, *, custom: bool
) -> None:
    """Envoy calls taking them work in progress: only where a route does."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        head(1234, 1235) + "upstreams: {a: {endpoints: ['http://127.0.0.1:1']}}\n"
        "defaults: {authentication: none}\n"
        f"routes: [{{name: a, match: {{path: /a, methods: {methods}}}, upstream: a}}]\n"
    )
    listener = compiled(file)["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    options = manager.get("http_protocol_options", {})
    assert options.get("allow_custom_methods", False) is custom


@given(st.from_regex(r"[!#$%&'*+\-.^_`|~0-9a-z]{1,200}", fullmatch=True), st.data())
def test_spellings_of_a_name(name: str, data: st.DataObject) -> None:
    """Each matches, and costs Envoy no more than it takes; another letter never does."""
    pattern = spellings(name)
    marks = st.sampled_from("!#$%&'*+-.^_`|~")
    spelt = "".join(c if c.isalnum() else data.draw(marks) for c in name)
    assert re.fullmatch(pattern, spelt)
    assert not re.fullmatch(pattern, name + ("y" if name.endswith("x") else "x"))
    assert pattern.count("[") * 3 + len(re.sub(r"\[.*?\]", "", pattern)) <= 94


def test_envoy_takes_the_spellings_of_any_name(tmp_path: Path) -> None:
    """It bounds the size of an expression."""
    names = ["a" * 500, "-" * 500, "a-" * 250, "-a" * 22, "a" * 90, "-" * 30, "-" * 31]
    headers = "".join(f"'x{name}': a, " for name in names)
    text = "  - {name: a, match: {path: /a}, upstream: echo}\n"
    path = gateway(tmp_path, text, more=f"identity: {{headers: {{{headers}}}}}\n")
    validated(compiled(path), tmp_path)
