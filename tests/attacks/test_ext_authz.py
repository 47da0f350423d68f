"""Behind an Envoy of somebody else's that leaves paths as they come: the service alone judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from extproc.config.load import load
from tests.attacks.wire import Answer, Received, Upstream, exchange, request, running
from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, envoy, head, service
from tests.support.records import records_in
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REST = """
upstreams: {echo: {endpoints: ["http://127.0.0.1:1"]}}
decisions: {file: records.jsonl}
defaults: {authentication: none}
policies:
  tree:
    rules:
      - {name: admin, deny: 'request.path.startsWith("/admin/")', reason: admin_area}
      - {name: rest, allow: 'true'}
routes:
  - {name: all, match: {path: /*, methods: [GET]}, upstream: echo, authorization: tree}
"""
AROUND = [
    "//admin/x",
    "/admin%2fx",
    "/%61dmin/x",
    "/public/../admin/x",
    "/./admin/x",
    "/x/..%2fadmin/x",
]
AROUND += ["/public/%2e%2e/admin/x", "/public\\..\\admin/x", "/admin%5cx", "/%7Euser", "/none;x"]
KIND = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"


class Ingress:
    """The service, an Envoy that asks it over ext_authz, and the upstream."""

    def __init__(self, file: Path, port: int, upstream: Upstream) -> None:
        self.file = file
        self._port = port
        self._upstream = upstream

    def send(self, path: str, method: str = "GET") -> tuple[Answer, list[Received]]:
        """Make a request; return the answer and what the upstream got."""
        before = len(self._upstream.received)
        answer = exchange(self._port, request(path, method=method), method=method)
        return answer, self._upstream.received[before:]

    def records(self) -> list[Any]:
        """Return the decision records."""
        return records_in(self.file.parent / "records.jsonl")


def config(port: int, listen: int, upstream: int, route: str) -> Any:
    """Return the configuration in `envoy/` without any normalisation."""
    text = (ROOT / "envoy" / "ext_authz.yaml").read_text()
    for old, new in ((8080, port), (9191, listen), (9108, upstream)):
        text = text.replace(f"port_value: {old}", f"port_value: {new}")
    made = yaml.safe_load(text)
    manager = made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    settings = manager["typed_config"] | {"normalize_path": False, "merge_slashes": False}
    del settings["path_with_escaped_slashes_action"]
    manager["typed_config"] = settings
    if route:
        named = {"check_settings": {"context_extensions": {"extproc_route": route}}}
        settings["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = {
            "envoy.filters.http.ext_authz": {"@type": KIND} | named
        }
    return made


@pytest.fixture(scope="module", params=["by path", "by name", "by name and version"])
def ingress(request: pytest.FixtureRequest) -> Iterator[Ingress]:
    """Return one whose route is found in each way."""
    upstream, port, listen = Upstream(), free_port(), free_port()
    with running(upstream), short_folder() as folder:
        file = folder / "gateway.yaml"
        file.write_text(head(free_port(), free_port()) + REST)
        version = load(file, {}).version
        routes = {"by path": "", "by name": "all", "by name and version": f"all@{version}"}
        found = config(port, listen, upstream.port, routes[request.param])
        with service(file, f"127.0.0.1:{listen}"), envoy(found, port):
            made = Ingress(file, port, upstream)
            until(lambda: made.send("/x")[0].status == 200, "the service answers")
            yield made


@pytest.mark.parametrize("path", AROUND)
def test_no_spelling_of_a_path_is_a_way_around(ingress: Ingress, path: str) -> None:
    """400 and a record, and nothing for the upstream."""
    answer, received = ingress.send(path)
    assert (answer.status, answer.reason, received) == (400, "malformed", [])

    def recorded() -> Any:
        return next((r for r in ingress.records() if r["path"] == path), None)

    record = until(recorded, "the record")
    assert (record["decision"], record["status"], record["reason"]) == ("deny", 400, "malformed")


def test_what_is_spelt_as_it_is(ingress: Ingress) -> None:
    """Is judged, and reaches the upstream as it came."""
    answer, received = ingress.send("/admin/x")
    assert (answer.status, received) == (401, [])
    for path in ("/public/a%20b", "/public/a%C3%A9?x=%61//", "/~user"):
        answer, received = ingress.send(path)
        assert (answer.status, [r.path for r in received]) == (200, [path])


def test_no_other_method(ingress: Ingress) -> None:
    """Than the route takes: 405 with those it takes."""
    for method in ("POST", "DELETE", "OPTIONS"):
        answer, received = ingress.send("/x", method)
        assert (answer.status, answer.reason, received) == (405, "method_not_allowed", [])
        assert answer.header("allow") == "GET, HEAD"
