"""An HTTP client for tests: plain values out, any header and path in."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as plain values."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Return a problem's reason."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["type"]).removeprefix("urn:extproc:")

    @property
    def sent(self) -> dict[str, str]:
        """Return the headers that the echo upstream got."""
        return {name.lower(): value for name, value in self.json["headers"]}


def ask(
    port: int,
    target: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float = 15.0,
) -> Reply:
    """Make one request to 127.0.0.1 on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        data = response.read()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, data)
    finally:
        connection.close()
