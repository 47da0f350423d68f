"""Which route a request takes over ext_authz, and what none may take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.config.build import assemble
from extproc.config.load import load
from extproc.core.headers import Headers
from extproc.core.paths import normalised
from extproc.core.routes import Route, Routes
from extproc.core.values import Request, Response
from extproc.host.matcher import Matcher, is_normal
from extproc.testing import Counts, DirectRuntime, Events, ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from extproc.config.build import Assembly

GATEWAY = """
version: 1
listener: {address: "127.0.0.1:1"}
upstreams: {echo: {endpoints: ["http://127.0.0.1:2"]}}
defaults: {authentication: none}
routes:
  - {name: read, match: {path: /*, methods: [GET]}, upstream: echo}
  - {name: write, match: {path: "/things/{id}", methods: [PUT]}, upstream: echo}
  - {name: any, match: {path: /any, methods: any, headers: {x-on: "1"}}, upstream: echo}
  - {name: usual, match: {path: /only/*, host: only.test}, upstream: echo}
  - {name: hosted, match: {path: /hosted, host: "*.test", methods: [POST]}, upstream: echo}
"""
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
SLASHES = ["//admin/x", "/admin//x", "/admin%2fx", "/admin%5Cx", "/public\\..\\admin", "admin/x"]
DOTS = ["/public/../admin/x", "/public/%2e%2e/admin", "/public/.", "/..", "/public/..;/admin"]
ESCAPES = ["/%61dmin", "/admi%6E", "/%7Euser", "/a%2Db", "/%", "/%4", "/%zz", "/%ff", "/a%c0%ae"]
CHARACTERS = ["/é", "/a b", "/a\tb", "/a|b", "/{id}", '/"', "/a\x7f", "/%00", "/x#y", "/a;b"]
AMBIGUOUS = ["", "*", "http://h/admin", *SLASHES, *DOTS, *ESCAPES, *CHARACTERS]
NORMAL = ["/", "/a", "/a/", "/a.b/..c/...", "/~user", "/[1]", "/a@b:c,d=e+f!$&'()*", "/a%20b"]
NORMAL += ["/a%C3%a9", "/%25", "/%252e", "/a%3Bb", "/a%7Cb", "/x?a=%61;b//../#"]


class Place:
    """A matcher and the routes it finds."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gateway.yaml"
        self._clock = ManualClock()
        self.routes = Routes()
        self.matcher = Matcher(self.routes)

    def use(self, text: str) -> Assembly:
        """Put a version in force."""
        self._file.write_text(text)
        assembly = assemble(load(self._file, {}))
        runtime = DirectRuntime(self._clock)
        self.routes.add(assembly.routes(runtime, Counts(), Events(), frozenset()))
        self.matcher.use(assembly)
        return assembly

    def match(
        self, target: str, named: str = "", method: str = "GET", **options: str
    ) -> Route | Response | None:
        """Match a request."""
        host = options.pop("host", "h")
        headers = Headers((name.replace("_", "-"), value) for name, value in options.items())
        request = Request(method=method, host=host, target=target, headers=headers)
        return self.matcher.match(request, named)

    def refused(self, target: str, named: str = "", method: str = "GET", **options: str) -> str:
        """Match a request that none may take; return status, reason and what is allowed."""
        found = self.match(target, named, method, **options)
        assert isinstance(found, Response), found
        found.bind("id")
        assert json.loads(found.body or b"")["type"] == f"urn:extproc:{found.reason}"
        allow = found.headers.get("allow")
        return f"{found.status} {found.reason}" + (f" {allow}" if allow else "")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a matcher with one version in force."""
    made = Place(tmp_path)
    made.use(GATEWAY)
    return made


def name(found: Route | Response | None) -> str:
    """Return the name of the route that was found."""
    assert isinstance(found, Route), found
    return found.name


@pytest.mark.parametrize("named", ["", "read"])
@pytest.mark.parametrize("path", AMBIGUOUS)
def test_a_path_that_can_be_read_in_more_than_one_way(place: Place, path: str, named: str) -> None:
    """400, whoever chose the route."""
    assert place.refused(path, named) == "400 malformed"


@pytest.mark.parametrize("named", ["", "read"])
@pytest.mark.parametrize("path", NORMAL)
def test_a_path_that_has_one_normal_form(place: Place, path: str, named: str) -> None:
    """Passes, and a query may hold what it likes."""
    assert name(place.match(path, named)) == "read"


def test_what_may_be_escaped() -> None:
    """All but what a server decodes before it looks: unreserved characters, slashes and NUL."""
    wrong = {f"{ord(c):02x}" for c in UNRESERVED + "/\\\0"}
    for number in range(128):
        for escape in (f"{number:02x}", f"{number:02X}"):
            assert is_normal(f"/a%{escape}b") == (escape.lower() not in wrong), escape


@given(
    st.lists(
        st.sampled_from(["/", "%", "2", "e", "F", "5c", "6", ".", "..", ";", "a", "\\", "|", "é"])
    )
)
def test_what_passes_is_what_normalisation_makes(pieces: list[str]) -> None:
    """So a rule means the same here and behind an Envoy of ours."""
    path = "/" + "".join(pieces)
    assert not is_normal(path) or normalised(path) == path


@given(st.text(min_size=1))
def test_what_clients_quote_passes(text: str) -> None:
    """An honest client escapes what it must, and no more."""
    path = "/things/" + quote(text, safe="")
    assert is_normal(path) or text in {".", ".."} or not {"/", "\\", "\0"}.isdisjoint(text)


def test_the_named_routes_methods(place: Place) -> None:
    """Are those it takes by its path."""
    assert name(place.match("/elsewhere", "read", "HEAD")) == "read"
    assert place.refused("/elsewhere", "read", "DELETE") == "405 method_not_allowed GET, HEAD"
    assert place.refused("/things/1", "write") == "405 method_not_allowed PUT"
    assert name(place.match("/elsewhere", "any", "PURGE-ALL")) == "any"
    usual = "GET, HEAD, POST, PUT, PATCH, DELETE"
    assert place.refused("/x", "usual", "OPTIONS") == f"405 method_not_allowed {usual}"
    for method in ("get", "G1", "GET\n", "A" * 33, "", "-"):
        for named in ("read", "any", ""):
            assert place.refused("/any", named, method, x_on="1") == "400 malformed", method


def test_by_path(place: Place) -> None:
    """No route is 404; a route that takes other methods 405, with all that the path takes."""
    place.use(GATEWAY.replace("path: /*,", "path: /read,"))
    assert name(place.match("/read")) == "read"
    assert place.refused("/nowhere") == "404 no_route"
    assert place.refused("/read", method="POST") == "405 method_not_allowed GET, HEAD"
    assert place.refused("/any") == "404 no_route"  # a condition doesn't hold
    assert name(place.match("/any", x_on="1")) == "any"
    assert place.refused("/hosted", host="a.test") == "405 method_not_allowed POST"
    assert place.refused("/hosted", host="other") == "404 no_route"
    place.use(GATEWAY)
    assert place.refused("/things/1", method="POST") == "405 method_not_allowed PUT, GET, HEAD"


def test_a_name_is_its_newest_version(place: Place) -> None:
    """Also one that was in force before; with a version it is that one as long as it is there."""
    first = place.use(GATEWAY).loaded.version
    edited = GATEWAY.replace("methods: [PUT]", "methods: [POST]")
    second = place.use(edited).loaded.version
    assert first != second

    def version(named: str, method: str) -> str:
        found = place.match("/things/1", named, method)
        assert isinstance(found, Route), found
        return found.version

    assert version("write", "POST") == second
    assert version(f"write@{second}", "POST") == second
    assert version(f"write@{first}", "PUT") == first
    assert place.refused("/things/1", "write", "PUT") == "405 method_not_allowed POST"
    place.use(GATEWAY)
    assert version("write", "PUT") == first
    for named in ("nothing", "write@", "write@none", "@", f"@{first}", f"write@{first}@"):
        assert place.match("/things/1", named, "PUT") is None


def test_a_version_that_was_refused_leaves_the_one_before(place: Place) -> None:
    """Where another worker couldn't load it, this one goes back."""
    first = place.use(GATEWAY).loaded.version
    refused = place.use(GATEWAY.replace("/any", "/some")).loaded.version
    place.matcher.forget(refused)
    place.routes.drop(refused)
    for named in ("read", ""):
        found = place.match("/x", named)
        assert isinstance(found, Route)
        assert found.version == first


def test_one_that_is_not_loaded_is_no_refusal(place: Place) -> None:
    """It may be in force in a moment."""
    version = place.use(GATEWAY).loaded.version
    place.routes.drop(version)
    assert place.match("/x") is None
    assert place.match("/x", "read") is None
