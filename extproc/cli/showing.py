"""How an explanation looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from extproc.offline.document import Plain

_STYLES = {"allow": "bold green", "deny": "bold red", "error": "bold magenta"}
_RESULTS = {"true": "green", "false": "dim", "error": "magenta", "unknown": "yellow"}


class _Page:
    """Lines with indentation; markup comes from here alone."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def title(self, text: str, style: str = "bold") -> None:
        """Write a heading."""
        self._console.print(f"[{style}]{escape(text)}[/]")

    def lines(self, lines: Iterable[str], style: str = "", indent: int = 2) -> None:
        """Write lines below a heading."""
        for line in lines:
            text = escape(line)
            styled = f"[{style}]{text}[/]" if style else text
            self._console.print(" " * indent + styled)


def show(told: Plain) -> None:
    """Print an explanation."""
    page = _Page()
    any_of: dict[str, Any] = dict(told)
    _request(page, any_of["request"])
    if any_of["route"] is not None:
        _route(page, any_of["route"])
    for step in any_of["steps"]:
        _step(page, step)
    if any_of["on_the_response"]:
        page.title("on the response")
        page.lines([f"{', '.join(any_of['on_the_response'])}: not run, as nothing was called"])
    page.lines(any_of["log"], "magenta")
    _verdict(page, any_of["verdict"])


def _request(page: _Page, request: dict[str, Any]) -> None:
    rejected = request.get("rejected")
    page.title("request, as Envoy normalises it")
    if rejected is not None:
        text = f"refused by Envoy: {rejected['status']} {rejected['reason']}"
        page.lines([f"{text} ({rejected['details']})", rejected["why"]], "red")
        return
    query = f"?{request['query']}" if request["query"] else ""
    url = f"{request['scheme']}://{request['host']}{request['path']}{query}"
    page.lines([f"{request['method']} {url}  from {request['address']}"])
    page.lines([f"{name}: {value}" for name, value in request["headers"]], "dim")
    page.lines(request["changes"], "yellow")


def _route(page: _Page, route: dict[str, Any]) -> None:
    if route["name"] is None:
        page.title(f"no route: {route['status']}", "bold red")
        page.lines([route["why"]])
        page.lines([f"not {reason}" for reason in route["passed_over"]], "dim")
        return
    page.title(f"route {route['name']}")
    page.lines([f"{route['match']} in the virtual host {route['virtual_host']}"])


def _step(page: _Page, step: dict[str, Any]) -> None:
    phase = "" if step["phase"] == "request" else f" ({step['phase']})"
    page.title(f"{step['plugin']}{phase}: {step['outcome']}")
    page.lines(step["why"])
    _rules(page, step["rules"])
    page.lines([f"read {name} = {value}" for name, value in step["reads"].items()], "dim")
    page.lines([f"changed {change}" for change in step["changes"]], "cyan")


def _rules(page: _Page, rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        mark = "→" if rule["decided"] else " "
        candidate = " (candidate)" if rule["candidate"] else ""
        name = f"{rule['policy']}/{rule['name']}{candidate}"
        text = f"{mark} {rule['effect']:5} {rule['result']:7} {name}: {rule['source']}"
        because = f", as {rule['problem']}" if rule["problem"] else ""
        page.lines([text + because], _RESULTS[rule["result"]])


def _verdict(page: _Page, verdict: dict[str, Any]) -> None:
    style = _STYLES[verdict["decision"]]
    page.title(f"verdict: {' '.join(_words(verdict))}", style)
    upstream = verdict["upstream"]
    if upstream is not None:
        page.lines([f"{upstream['name']} gets {upstream['target']}"])
        page.lines([f"{name}: {value}" for name, value in upstream["headers"].items()], "dim")


def _words(verdict: dict[str, Any]) -> Iterator[str]:
    yield verdict["decision"]
    if verdict["status"] is not None:
        yield str(verdict["status"])
    for name in ("reason", "rule", "by", "consumer", "subject"):
        if verdict[name]:
            yield f"{name} {verdict[name]}"


def show_recorded(told: Plain) -> None:
    """Print the explanation of a recorded request."""
    page = _Page()
    any_of: dict[str, Any] = dict(told)
    record = any_of["record"]
    page.title(f"request {record['request_id']} at {record['time']}, route {record['route']}")
    was = any_of["was"]
    page.lines([f"was {' '.join(filter(None, was.values()))}, version {record['version']}"])
    page.lines([f"read {name} = {value}" for name, value in any_of["inputs"].items()], "dim")
    page.title("by this gateway file")
    page.lines(any_of["consumers"])
    _rules(page, any_of["rules"])
    would = any_of["would"]
    style = _STYLES.get(would["decision"], "bold yellow")
    page.title(f"verdict: {' '.join(filter(None, would.values()))}", style)
