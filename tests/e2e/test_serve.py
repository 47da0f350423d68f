"""`extproc serve`: the service alone, for an Envoy that someone else runs."""

# ruff: noqa: E501 - a route of the gateway file below is one line

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.adapters.messages import ext_authz_pb2
from extproc.adapters.wire_authz import CHECK
from extproc.config.load import load
from tests.support.certificates import Made, made
from tests.support.client import ask
from tests.support.places import free_port, short_folder
from tests.support.processes import ROOT, children, envoy, head, printed_envoy, service
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES = """
authentication:
  shop: {jwt: {issuer: "https://id", audiences: [a], secret: "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e", query: access_token}}
defaults: {authentication: none}
routes:
  - {name: open, match: {path: /open/*}, upstream: echo, request: {headers: {set: {x-set: "{request.path}"}}}}
  - {name: beta, match: {path: /open/*, headers: {x-beta: "1"}, query: {on: "1"}}, upstream: echo}
  - {name: moved, match: {path: /moved}, upstream: echo, rewrite: {path: /elsewhere}}
  - {name: pieces, match: {path: /pieces}, upstream: echo, plugins: [{use: "pieces.py:Pieces"}]}
  - {name: shaped, match: {path: /shaped}, upstream: echo, request: {body: "@"}}
  - name: sum
    match: {path: /sum}
    aggregate: {calls: {one: {upstream: echo, path: /one}}, response: "{path: one.path}"}
"""
WHOLE = """
  - {name: whole, match: {path: /whole}, upstream: echo, plugins: [{use: "pieces.py:Asked"}]}
"""

PIECES = """
import asyncio
from extproc import Plugin

class OnceOnly(Plugin):
    place: str

    async def on_start(self, services):
        try:
            open(self.place, "x").close()
        except FileExistsError:
            await asyncio.sleep(1)  # meanwhile the other worker has it
            raise

class Whole(Plugin):
    def on_response_body(self, request, response, body):
        response.headers["x-whole"] = str(len(body))

class Asked(Plugin):
    def on_request_body(self, request, body):
        pass

class Pieces(Plugin):
    streaming = True
    def on_request_body(self, request, body):
        pass
"""


@pytest.fixture
def place(echo: int) -> Iterator[tuple[Path, int]]:
    """Return a gateway file and the port its listener has."""
    with short_folder() as folder:
        port = free_port()
        file = folder / "gateway.yaml"
        upstream = f"upstreams: {{echo: {{endpoints: ['http://127.0.0.1:{echo}']}}}}"
        (folder / "pieces.py").write_text(PIECES)
        file.write_text(head(port, free_port()) + upstream + ROUTES)
        yield file, port


@pytest.mark.parametrize("kind", ["unix", "tcp", "name"])
def test_behind_an_envoy_of_ones_own(place: tuple[Path, int], kind: str) -> None:
    """What `extproc envoy` prints and `extproc serve` serves belong together."""
    file, port = place
    hosts = {"tcp": "127.0.0.1", "name": "localhost"}
    listen = f"{hosts[kind]}:{free_port()}" if kind in hosts else f"unix:{file.parent}/s"
    egress, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = printed_envoy(file, "--service", listen, "--egress", egress, "--admin", admin)
    with service(file, listen, egress), envoy(config, port):
        until(lambda: ask(port, "/open/x").status == 200, "the service is healthy")
        assert ask(port, "/open/x").sent["x-set"] == "/open/x"
        assert ask(port, "/sum").json == {"path": "/one"}


def test_an_end_that_was_meant_is_told_from_one_that_was_not(place: tuple[Path, int]) -> None:
    """The last line of the log says so."""
    file, _ = place
    with service(file, f"unix:{file.parent}/s"):
        pass
    assert '"event":"stopped"' in (file.parent / "serve.log").read_text().splitlines()[-1]


MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@pytest.mark.parametrize("normalises", [True, False])
def test_parts_in_a_connection_manager_of_ones_own(
    place: tuple[Path, int], *, normalises: bool
) -> None:
    """No path gets by a route that an upstream could read as another's."""
    file, port = place
    listen, egress = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    options = ("--service", listen, "--egress", egress, "--part")
    printed = {
        part: printed_envoy(file, *options, part)
        for part in ("filters", "routes", "clusters", "egress")
    }
    manager = {
        "@type": f"type.googleapis.com/{MANAGER}",
        "stat_prefix": "own",
        "http_filters": printed["filters"],
        "route_config": printed["routes"],
    }
    if normalises:
        manager |= {"normalize_path": True, "merge_slashes": True}
    listener = {
        "name": "own",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    config = {
        "static_resources": {
            "listeners": [listener, printed["egress"]],
            "clusters": printed["clusters"],
        }
    }
    with service(file, listen, egress), envoy(config, port):
        until(lambda: ask(port, "/open/x").status == 200, "the service is healthy")
        for path in ("/open/a%20b", "/open/...", "/open/a;b", "/open/.x/y", "/open/x?a=//..%2f"):
            assert ask(port, path).json["path"] == path
        for path in ("/open/../sum", "/open//x", "/open/..", "/open/%41", "/open/..;/sum"):
            reply = ask(port, path)
            assert reply.status != 200 or (normalises and reply.json["path"] != path), path
        for path in ("/open/a%2Fb", "/open/a%5cb", "/open/a%00b"):
            assert ask(port, path).status == 400, path


def test_an_envoy_of_another_version_is_told_from_one_that_fits(place: tuple[Path, int]) -> None:
    """Nothing is let through, and who operates it can see which version who has."""
    file, port = place
    listen, told = f"127.0.0.1:{free_port()}", free_port()
    printed = printed_envoy(file, "--service", listen, "--admin", f"127.0.0.1:{told}")
    old = load(file, {})
    admin = int(old.gateway.admin.address.rpartition(":")[2])
    file.write_text(file.read_text().replace("x-set", "x-other"))
    with service(file, listen), envoy(printed, port):
        until(
            partial(counted, told, "cluster.extproc.health_check.success"), "the service is healthy"
        )
        refused = ask(port, "/open/x")
        assert (refused.status, refused.json["type"]) == (503, "urn:extproc:route_not_loaded")
        assert ask(admin, "/status").json["versions"] == [load(file, {}).version]
        metric = b'extproc_exchanges_total{decision="error",route=""} 1.0'
        until(lambda: metric in ask(admin, "/metrics").body, "it is counted")
        log = file.parent / "serve.log"
        until(lambda: '"reason":"route_not_loaded"' in log.read_text(), "it is recorded")
        [line] = [one for one in log.read_text().splitlines() if "route_not_loaded" in one]
        record = json.loads(line)
        assert (record["route"], record["version"]) == ("open", old.version)


def counted(admin: int, counter: str) -> bool:
    """Say whether an Envoy has counted something."""
    return ask(admin, f"/stats?filter=^{counter}$").body.strip() != f"{counter}: 0".encode()


def test_an_envoy_on_another_host_asks_over_tls(place: tuple[Path, int]) -> None:
    """Each shows a certificate; the service's is for the name it is asked at, whoever else's."""
    file, port = place
    root, listen = made("root"), f"localhost:{free_port()}"
    shown = {"srv": made("localhost", root), "cli": made("envoy", root), "odd": made("odd", root)}
    (file.parent / "ca.crt").write_text(root.pem)
    for name, one in shown.items():
        (file.parent / f"{name}.crt").write_text(one.pem)
        (file.parent / f"{name}.key").write_text(one.key_pem)

    def pair(option: str, name: str) -> tuple[str, ...]:
        files = [str(file.parent / f"{name}.{end}") for end in ("crt", "key")]
        return f"--{option}-cert", files[0], f"--{option}-key", files[1]

    authority = str(file.parent / "ca.crt")
    told = free_port()
    egress, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{told}"
    config = ["--service", listen, "--egress", egress, "--admin", admin, "--service-ca", authority]
    for name, shows, status in (("srv", True, 200), ("srv", False, 503), ("odd", True, 503)):
        printed = printed_envoy(file, *config, *(pair("service", "cli") if shows else ()))
        options = [*pair("tls", name), "--tls-client-ca", authority]
        with service(file, listen, egress, options=options), envoy(printed, port):
            result = "success" if status == 200 else "failure"
            counter = f"cluster.extproc.health_check.{result}"
            until(partial(counted, told, counter), f"Envoy's question is a {result}")
            assert ask(port, "/open/x").status == status


def checked(
    channel: grpc.Channel,
    path: str,
    route: str = "",
    body: bytes = b"",
    method: str = "GET",
    **headers: str,
) -> ext_authz_pb2.CheckResponse:
    """Make one ext_authz Check."""
    message = ext_authz_pb2.CheckRequest()
    http = message.attributes.request.http
    http.method, http.path, http.host, http.scheme = method, path, "shop", "http"
    for name, value in headers.items():
        http.header_map.headers.add(key=name.replace("_", "-"), raw_value=value.encode())
    http.raw_body = body
    if route:
        message.attributes.context_extensions["extproc_route"] = route
    call: Any = channel.unary_unary(CHECK)
    return ext_authz_pb2.CheckResponse.FromString(call(message.SerializeToString(), timeout=10))


def test_ext_authz_and_health(place: tuple[Path, int]) -> None:
    """The same plugins over Check; the route by extension, or by our own reading of the path."""
    file, _ = place
    listen = f"127.0.0.1:{free_port()}"
    version = load(file, {}).version
    with service(file, listen), grpc.insecure_channel(listen) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for route in ("", "open", f"open@{version}"):
            response = checked(channel, "/open/x", route)
            assert response.status.code == 0
            (option,) = response.ok_response.headers
            assert (option.header.key, option.header.value) == ("x-set", "/open/x")
        beta = checked(channel, "/open/x?a=b&on=1", x_beta="1")
        assert not beta.ok_response.headers  # the more specific route sets none
        assert checked(channel, "/open/x?on=2", x_beta="1").ok_response.headers
        # What ext_authz can't carry is denied, not left out.
        assert checked(channel, "/moved").denied_response.status.code == 500
        assert checked(channel, "/pieces").status.code == 0
        assert checked(channel, "/pieces", body=b"x").denied_response.status.code == 500
        for path in ("/open/../x", "/open//x", "/open/%2e%2e/x", "/open/a%2fb", "/%6fpen/x"):
            for route in ("", "open", f"open@{version}"):
                assert checked(channel, path, route).denied_response.status.code == 400, path
        assert checked(channel, "/nowhere").denied_response.status.code == 404
        assert (
            checked(channel, "/nowhere", "open").status.code == 0
        )  # the ingress has its own match
        aggregate = checked(channel, "/sum")
        assert aggregate.denied_response.status.code in {502, 504}  # no Envoy to call through
        unknown: Any = channel.unary_unary("/envoy.service.auth.v3.Authorization/Nothing")
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        broken: Any = channel.unary_unary(CHECK)
        with pytest.raises(grpc.RpcError) as caught:
            broken(b"\xff", timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_behind_an_envoy_that_speaks_ext_authz_only(place: tuple[Path, int], echo: int) -> None:
    """The configuration in `envoy/` works as it stands, but for its ports."""
    file, port = place
    listen = free_port()
    text = (ROOT / "envoy" / "ext_authz.yaml").read_text()
    for old, new in ((8080, port), (9191, listen), (9108, echo)):
        text = text.replace(f"port_value: {old}", f"port_value: {new}")
    with service(file, f"127.0.0.1:{listen}"), envoy(yaml.safe_load(text), port):
        until(lambda: ask(port, "/open/x").status == 200, "the service answers")
        assert ask(port, "/open/x").sent["x-set"] == "/open/x"
        # A credential in the query is taken off, also where nobody reads it.
        for query, goes in (
            ("access_token=x", ""),
            ("access_token", ""),
            # Envoy writes anew what is left, sorted by name.
            ("&access_token==x&", "?="),
            ("z=1&a=?2&access_token=?&z=/%2F", "?a=?2&z=1&z=/%2F"),
            ("b=%20+1&access_token=x&b=2&c&access_token=y&%61ccess_token=z", "?b=%20+1&b=2&c="),
        ):
            reply = ask(port, f"/open/x?{query}")
            assert (reply.status, reply.json["path"]) == (200, f"/open/x{goes}")
        nowhere = ask(port, "/nowhere")
        assert nowhere.status == 404
        assert nowhere.json["type"] == "urn:extproc:no_route"
    with envoy(
        yaml.safe_load(text), port
    ):  # nobody is forbidden anything by a service that is down
        assert ask(port, "/open/x").status == 503


def in_parts(node: Any) -> None:
    """Have each body that is kept until it is whole sent as far as it was kept, and keep little."""
    if isinstance(node, dict):
        modes = node.get("processing_mode", {})
        for name in ("request_body_mode", "response_body_mode"):
            if modes.get(name) == "BUFFERED":
                modes[name] = "BUFFERED_PARTIAL"
        for name in ("request_body_buffer_limit", "per_connection_buffer_limit_bytes"):
            if name in node:
                node[name] = 1024
        node = list(node.values())
    for inside in node if isinstance(node, list) else ():
        in_parts(inside)


def test_what_must_be_seen_whole_is_refused_in_part(place: tuple[Path, int]) -> None:
    """By an Envoy that sends the beginning of a body and lets the rest pass."""
    file, port = place
    rest = """
policies: {small: {rules: [{name: small, allow: 'request.body.total <= 5'}]}}
routes:
  - {name: judged, match: {path: /judged}, upstream: echo, body: json, authorization: small}
  - {name: shown, match: {path: /shown}, upstream: echo, plugins: [{use: "pieces.py:Whole"}]}
"""
    file.write_text(file.read_text().partition("routes:")[0] + rest)
    listen, egress = f"unix:{file.parent}/s", f"127.0.0.1:{free_port()}"
    config = printed_envoy(file, "--service", listen, "--egress", egress)
    in_parts(config)
    said = {"content-type": "application/json"}
    long = b'{"total": 5}' + b" " * 300_000 + b'{"total": 6}'
    with service(file, listen, egress), envoy(config, port):
        until(lambda: ask(port, "/shown").status == 200, "the service is healthy")
        for body, status in ((b'{"total": 5}', 200), (b'{"total": 6}', 401), (long, 413)):
            assert ask(port, "/judged", method="POST", headers=said, body=body).status == status
        assert ask(port, "/shown").headers["x-whole"] != "0"
        large = ask(port, "/shown", method="POST", body=b"\0" * 900_000)  # six times that comes
        assert (large.status, large.reason) == (502, "body_cut")


@pytest.mark.parametrize("route", ["whole", "pieces"])
def test_a_body_that_an_ingress_does_not_send_is_not_none(
    place: tuple[Path, int], route: str
) -> None:
    """Without a length nothing tells it from none, so what is for sending has to say it."""
    file, _ = place
    file.write_text(file.read_text() + WHOLE)
    listen = f"127.0.0.1:{free_port()}"
    with service(file, listen), grpc.insecure_channel(listen) as channel:

        def status(method: str, body: bytes = b"", **headers: str) -> int:
            answer = checked(channel, f"/{route}", "", body, method, **headers)
            return int(answer.denied_response.status.code)

        closed = 413 if route == "whole" else 500
        assert status("GET") == status("DELETE") == 0
        assert status("POST", content_length="0") == 0
        assert status("POST", x_envoy_auth_partial_body="false") == 0  # Envoy was to send it
        assert status("POST") == status("PUT") == status("PATCH") == closed
        assert status("DELETE", content_length="1") == closed
        assert status("POST", b"x", x_envoy_auth_partial_body="true") == closed
        if route == "whole":
            assert status("POST", b"x", x_envoy_auth_partial_body="false") == 0


def refused(channel: grpc.Channel, route: str) -> int:
    """Return the status that a Check is refused with; 0 where it isn't."""
    return int(checked(channel, "/open/x", route).denied_response.status.code)


def test_an_edited_file_is_what_a_route_without_version_means(place: tuple[Path, int]) -> None:
    """A route with its version stays what it was; one that isn't in force is 503."""
    file, _ = place
    listen = f"127.0.0.1:{free_port()}"
    old = load(file, {}).version
    with service(file, listen), grpc.insecure_channel(listen) as channel:
        assert [refused(channel, route) for route in ("", "open", f"open@{old}")] == [0, 0, 0]
        policies = "policies: {never: {rules: [{name: no, deny: 'true'}]}}\n"
        text = file.read_text().replace("name: open,", "name: open, authorization: never,")
        file.write_text(policies + text)
        new = load(file, {}).version
        until(lambda: refused(channel, f"open@{new}") != 503, "the new version is in force")
        for route in ("", "open", f"open@{new}"):
            assert refused(channel, route) == 401, route
        assert refused(channel, f"open@{old}") == 0
        for route in ("open@other", "nothing", f"nothing@{new}"):
            assert refused(channel, route) == 503, route
        file.write_text("broken")
        until(lambda: "reload refused" in (file.parent / "serve.log").read_text(), "it was read")
        assert refused(channel, "open") == 401


def test_a_worker_that_is_replaced_has_every_version_in_force(place: tuple[Path, int]) -> None:
    """Envoy may still have any of them; the eight newest are in force, and nothing else is kept."""
    file, _ = place
    listen, text = f"127.0.0.1:{free_port()}", file.read_text()
    versions = [load(file, {}).version]
    with service(file, listen) as process, grpc.insecure_channel(listen) as channel:

        def in_force() -> list[str]:
            try:
                return [one for one in versions if refused(channel, f"open@{one}") == 0]
            except grpc.RpcError:
                return []  # nobody listens at the moment

        for number in range(9):
            added = f"  - {{name: n{number}, match: {{path: /n{number}}}, upstream: echo}}\n"
            file.write_text(text + added)
            versions.append(load(file, {}).version)
            until(lambda: versions[-1] in in_force(), "the new version is in force")
        until(lambda: in_force() == versions[-8:], "the oldest are out of force")
        [worker] = children(process.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: children(process.pid) not in ([], [worker]), "it is replaced")
        until(lambda: in_force() == versions[-8:], "all are in force again", 30)
        assert refused(channel, "") == 0
        [copies] = Path(tempfile.gettempdir()).glob(f"extproc-*/versions/{versions[-1]}")
        assert {copy.name for copy in copies.parent.iterdir()} == set(versions[-8:])


def test_a_version_that_one_worker_refuses_is_in_force_in_none(place: tuple[Path, int]) -> None:
    """Nor for the time that it takes: the other one never decides by it."""
    file, _ = place
    listen = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    taken = file.parent / "taken"
    with service(file, listen[0], "127.0.0.1:1", listen[1]):
        plugin = f'plugins: [{{use: "pieces.py:OnceOnly", with: {{place: "{taken}"}}}}], '
        policies = "policies: {never: {rules: [{name: no, deny: 'true'}]}}\n"
        text = file.read_text().replace(
            "name: open,", f"name: open, authorization: never, {plugin}"
        )
        file.write_text(policies + text)
        log = file.parent / "serve.log"
        with ExitStack() as stack:
            channels = [stack.enter_context(grpc.insecure_channel(one)) for one in listen]

            def is_refused() -> bool:
                told = [refused(channel, route) for channel in channels for route in ("", "open")]
                assert told == [0, 0, 0, 0]
                return "reload refused" in log.read_text()

            until(is_refused, "it was read")
            assert taken.exists()
            assert is_refused()


def put(folder: Path, name: str, files: dict[str, str]) -> None:
    """Write files as a mounted secret has them: the links to them stay, the folder is another."""
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text)
    fresh = folder / "..fresh"
    fresh.symlink_to(name)
    fresh.replace(folder / "..data")


def test_a_renewed_certificate_is_taken(place: tuple[Path, int]) -> None:
    """By whoever connects next; what doesn't fit together is not, and a client shows its own."""
    file, _ = place
    old, new, listen = made("old"), made("new"), f"127.0.0.1:{free_port()}"
    client, server = made("client", old), made("server", old)
    folder = file.parent
    put(folder, "..1", {"crt": server.pem, "key": server.key_pem, "ca": old.pem})
    for name in ("crt", "key", "ca"):
        (folder / name).symlink_to(f"..data/{name}")
    files = ("--tls-cert", "crt", "--tls-key", "key", "--tls-client-ca", "ca")
    options = [one if one.startswith("-") else str(folder / one) for one in files]

    def answers(issuer: Made, shown: Made) -> bool:
        credentials = grpc.ssl_channel_credentials(
            issuer.pem.encode(), shown.key_pem.encode(), shown.pem.encode()
        )
        name = [("grpc.ssl_target_name_override", "server")]
        with grpc.secure_channel(listen, credentials, name) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                return bool(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - either is right
                return False

    with service(file, listen, options=options) as process:
        assert answers(old, client)
        assert not answers(old, made("client", new))
        renewed = made("server", new)
        put(folder, "..2", {"crt": renewed.pem, "key": server.key_pem, "ca": old.pem})
        shutil.rmtree(folder / "..1")
        assert answers(old, client)  # a certificate and another's key
        put(folder, "..3", {"crt": renewed.pem, "key": renewed.key_pem, "ca": new.pem})
        shutil.rmtree(folder / "..2")
        assert [answers(old, client), answers(new, client)] == [False, False]
        assert answers(new, made("client", new))
        [worker] = children(process.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: answers(new, made("client", new)), "the next worker has it too", 20)
