"""Whether a response would be stored, told before there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from extproc.cli import application

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
version: 1
listener: {address: "127.0.0.1:1"}
upstreams: {up: {endpoints: ["http://127.0.0.1:9"]}}
defaults: {authentication: none}
routes:
  - {name: plain, match: {path: /plain}, upstream: up, cache: {}}
  - {name: ttl, match: {path: /ttl}, upstream: up, cache: {ttl: 30s, statuses: {"404": 5s}}}
  - {name: none, match: {path: /none}, upstream: up}
"""


@pytest.mark.parametrize(
    ("path", "response", "expected"),
    [
        (
            "/plain",
            "200 OK\nCache-Control: max-age=60\nAge: 5",
            "it names 60 s, so it is fresh for 55 s",
        ),
        ("/plain", "200 OK\nCache-Control: private", "not stored: it says private"),
        ("/plain", "200 OK\nSet-Cookie: a=canary", "not stored: it sets a cookie"),
        ("/plain", "200 OK", "not stored: it has no lifetime"),
        ("/ttl", "200 OK", "it names no lifetime, ttl gives it 30 s"),
        ("/ttl", "404 Not Found", "its status has 5 s here"),
        ("/ttl", "200 OK\nVary: X-A\nCDN-Cache-Control: max-age=9", "a targeted field names 9 s"),
        ("/ttl", "200 OK\nVary: X-A, X-B", "reused where x-a, x-b say the same"),
        ("/none", "200 OK", "not stored: the route has no cache"),
    ],
)
def test_what_is_said(path: str, response: str, expected: str, tmp_path: Path) -> None:
    """In words, with the reason; values of headers aren't shown."""
    (tmp_path / "gateway.yaml").write_text(TEXT)
    (tmp_path / "response").write_text(f"HTTP/1.1 {response}\n\nbody")
    command = ["explain", str(tmp_path / "gateway.yaml"), "GET", path]
    done = CliRunner().invoke(application, [*command, "--response", str(tmp_path / "response")])
    assert done.exit_code == 0, done.output
    assert expected in done.output
    assert "canary" not in done.output


@pytest.mark.parametrize("text", ["", "200 OK", "HTTP/1.1 OK", "HTTP/1.1 200 OK\nx y: 1"])
def test_what_is_no_response(text: str, tmp_path: Path) -> None:
    """Is said, as a mistake of usage."""
    (tmp_path / "gateway.yaml").write_text(TEXT)
    (tmp_path / "response").write_text(text)
    command = ["explain", str(tmp_path / "gateway.yaml"), "GET", "/plain"]
    done = CliRunner().invoke(application, [*command, "--response", str(tmp_path / "response")])
    assert done.exit_code == 2
