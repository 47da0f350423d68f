"""What a route reads of its path must be there."""

# ruff: noqa: E501 - a mistake and its words are one line

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from extproc.config.build import assemble
from extproc.config.errors import ConfigError
from extproc.config.load import load

if TYPE_CHECKING:
    from pathlib import Path

GATEWAY = """version: 1
listener: {address: "127.0.0.1:8080"}
upstreams: {a: {endpoints: ["http://127.0.0.1:1"]}}
defaults: {authentication: none}
consumers: {c: {when: 'request.params.ids == "1"'}}
policies: {p: {rules: [{name: r, allow: 'request.params.ids == "1"'}]}}
identity: {headers: {x-ix: "{request.params.ids}"}}
routes:
  - match: {path: "/b/{id}/{other}"}
    name: b
    authorization: p
    %s
"""
AGGREGATE = "aggregate: {calls: {one: {upstream: a, %s}}, response: one}"


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ("upstream: a\n    rewrite: {path: '/b/{request.params.ids}'}", "rewrite.path"),
        ("upstream: a\n    rewrite: {path: '/b?x={request.params[\"ids\"]}'}", "rewrite.path"),
        ("upstream: a\n    request: {headers: {set: {x: '{request.params.ids}'}}}", "request.headers.set.x"),
        ("upstream: a\n    response: {headers: {set: {x: 'a-{request . params.ids}'}}}", "response.headers.set.x"),
        ("upstream: a\n    cache: {tags: ['{request.params.ids}']}", "cache.tags[0]"),
        ("upstream: a\n    cache: {bypass: ['request.params.ids == \"1\"']}", "cache.bypass[0]"),
        (AGGREGATE % "path: '/{request.params.ids}'", "aggregate.calls.one.path"),
        (AGGREGATE % "path: /, when: 'request.params.ids == \"1\"'", "aggregate.calls.one.when"),
        (AGGREGATE % "path: /, headers: {x: '{request.params.ids}'}", "aggregate.calls.one.headers.x"),
        (AGGREGATE % "path: /, method: PUT, body: {x: ['{request.params.ids}']}", "aggregate.calls.one.body.x[0]"),
        (AGGREGATE % "path: /, fallback: {upstream: a, path: '/{request.params.ids}'}", "aggregate.calls.one.fallback.path"),
    ],
)  # fmt: skip
def test_a_parameter_that_the_path_lacks(tmp_path: Path, route: str, key: str) -> None:
    """Each request would fail, or lack what was to be set."""
    file = tmp_path / "gateway.yaml"
    file.write_text(GATEWAY % route)
    with pytest.raises(ConfigError) as caught:
        assemble(load(file, {}))
    (line,) = str(caught.value).splitlines()
    problem = "reads request.params.ids, and /b/{id}/{other} has no {ids}, did you mean id?"
    assert line.endswith(f": routes[0].{key}: {problem}")


@pytest.mark.parametrize(
    "path",
    [
        "/{request.params.id}/{request.params['other']}",
        "/{has(request.params.ids) ? request.params.ids : request.params.id}",
        "/{'ids' in request.params ? request.params.ids : request.params.id}",
        "/{request.params[request.headers.ix]}",
        "/{request.params.id + 'request.params.ids'}",
    ],
)
def test_what_may_be_there(tmp_path: Path, path: str) -> None:
    """What is there, what is asked for first, and what can't be known; policies see many paths."""
    file = tmp_path / "gateway.yaml"
    file.write_text(GATEWAY % f'upstream: a\n    rewrite: {{path: "{path}"}}')
    assemble(load(file, {}))
