"""Bodies in another shape: what the client gets where one can't be made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from extproc.core.values import Response
from extproc.expressions.projections import Projection
from extproc.testing import Trial
from extproc.transformation.plugins import RequestBody, ResponseBody

if TYPE_CHECKING:
    from extproc.core.headers import Headers

INFINITE = [
    ("{n: ceil(to_number(v))}", {"v": "inf"}),
    ("{n: to_number(v)}", {"v": "nan"}),
    ("{n: avg(v)}", {"v": [1e308, 1e308]}),
    ("{n: avg(v), big: big}", {"v": [1e308, 1e308], "big": 10**20}),
    ("v[].to_number(@)", {"v": ["1", "-inf"]}),
]


async def test_no_digest_of_the_other_body() -> None:
    """What checks it would refuse the shaped one (RFC 9530), the client's as the upstream's."""
    digests = dict.fromkeys(("content-digest", "content-md5", "digest", "repr-digest"), "x")

    def upstream(_headers: Headers, body: bytes) -> Response:
        return Response(200, {"content-type": "application/json", **digests}, body)

    shape = Projection("{a: a}")
    trial = Trial(RequestBody(shape=shape), ResponseBody(shape=shape, views={}))
    response = await trial.request("POST", "/", digests, b'{"a": 1, "b": 2}', upstream=upstream)
    assert response.body == b'{"a":1}'
    assert not digests.keys() & set(trial.seen)
    assert not digests.keys() & set(response.headers)


@pytest.mark.parametrize(("shape", "value"), INFINITE)
async def test_an_upstream_s_infinite_number(shape: str, value: object) -> None:
    """JSON has none: 502, as for other answers that can't be shaped, and never null."""

    def upstream(_headers: Headers, _body: bytes) -> Response:
        return Response(200, {"content-type": "application/json"}, json.dumps(value).encode())

    trial = Trial(ResponseBody(shape=Projection(shape), views={}))
    response = await trial.request(upstream=upstream)
    assert response.status == 502
    assert response.reason == "upstream_not_json"


@pytest.mark.parametrize(("shape", "value"), INFINITE)
async def test_a_client_s_infinite_number(shape: str, value: object) -> None:
    """The same of a request is 400."""
    trial = Trial(RequestBody(shape=Projection(shape)))
    body = json.dumps(value).encode()
    response = await trial.request("POST", headers={"content-type": "application/json"}, body=body)
    assert response.status == 400
    assert response.reason == "malformed_body"
