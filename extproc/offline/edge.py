"""A message → the request that the service would see: what Envoy checks, takes off and adds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.adapters.wire import host_only
from extproc.core.paths import NoNormalForm, normalised
from extproc.core.verdict import CONTROL_HEADERS
from extproc.envoy_config.matching import KNOWN, names_methods, spellings
from extproc.offline.raw import Message, Rejected

if TYPE_CHECKING:
    from extproc.config.schema import Gateway

# What nghttp2, whose table Envoy takes, lets stand in an authority.
_AUTHORITY = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=@\[\]_~]*\Z")
_ABSOLUTE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)\Z"
)
_URL_AUTHORITY = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:%]*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~]+)(?P<port>:[0-9]+)?\Z"
)
_PORT = re.compile(r":([0-9]{1,10})\Z")
_LARGEST_PORT = 2**32 - 1  # what Envoy reads; that no such port exists doesn't matter to it
_MOST_NOMINATED = 9
_NEVER_NOMINATED = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
_OF_THE_CONNECTION = frozenset(
    {"connection", "expect", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
# A statement of an earlier proxy, which Envoy's edge takes off by itself.
_OF_PROXIES = "x-forwarded-client-cert"
_OF_ENVOYS = "x-envoy-"


@dataclass(frozen=True, slots=True)
class Edge:
    """What of a gateway file matters before routing.

    Attributes:
        scheme: `http`, or `https` with TLS.
        trusted_proxies: how many set `x-forwarded-for` before this one.
        identity: every spelling of the headers that tell upstreams who is calling.
        interim: 1xx responses are passed on, and so is `Expect: 100-continue`.
        custom_methods: methods are taken that Envoy's parser doesn't know.
    """

    scheme: str
    trusted_proxies: int
    identity: tuple[re.Pattern[str], ...]
    interim: bool = False
    custom_methods: bool = False

    @classmethod
    def of(cls, gateway: Gateway, *, interim: bool) -> Edge:
        """Read a gateway file."""
        scheme = "http" if gateway.listener.tls is None else "https"
        identity = tuple(re.compile(spellings(name)) for name in gateway.identity_headers)
        custom = names_methods(gateway.routes)
        return cls(scheme, gateway.listener.trusted_proxies, identity, interim, custom)

    def removes(self, name: str) -> bool:
        """Say whether a header that a client sent is taken off before anything looks at it."""
        return (
            name in CONTROL_HEADERS
            or name == _OF_PROXIES
            or name.startswith(_OF_ENVOYS)
            or any(spelling.fullmatch(name) for spelling in self.identity)
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as the service would get it.

    Attributes:
        method: as sent.
        scheme: `http` or `https`.
        authority: without port and trailing dot, capitals as sent: what routes are found by.
        target: the normalised path with the query as sent.
        fields: names and values, in order.
        body: without its framing.
        framed: a body was announced.
        cut: more of it was announced than came.
        address: the client's, after trusted proxies.
        upgrade: the protocol that the client asks to switch to; empty for none.
        changes: what was changed on the way, for people.
    """

    method: str
    scheme: str
    authority: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    framed: bool
    cut: bool
    address: str
    upgrade: str
    changes: tuple[str, ...]

    @property
    def host(self) -> str:
        """Return the host as plugins see it."""
        return host_only(self.authority)

    @property
    def path(self) -> str:
        """Return the normalised path."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class _Target:
    """A request target, taken apart."""

    authority: str
    path: str
    changes: tuple[str, ...] = ()


def arrive(message: Message, edge: Edge, address: str, request_id: str) -> Arrival | Rejected:
    """Do what Envoy does before it looks for a route.

    Args:
        message: as the codec read it.
        edge: the gateway file's part in it.
        address: of the connection.
        request_id: that Envoy would make.
    """
    if message.method not in KNOWN and not edge.custom_methods:
        why = f"{message.method[:40]} is no method that Envoy knows, and no route names one"
        return Rejected(400, "http1.codec_error", why)
    target = _target(message, edge)
    if isinstance(target, Rejected):
        return target
    refused = _refused(message, target)
    if refused is not None:
        return refused
    path = _path(target.path)
    if isinstance(path, Rejected):
        return path
    client = _client(message.values("x-forwarded-for"), edge.trusted_proxies, address)
    fields, changes = _fields(message, edge, client, request_id)
    authority = _stripped(target.authority)
    return Arrival(
        message.method,
        edge.scheme,
        authority,
        path,
        fields,
        message.body,
        message.framed,
        message.cut,
        client,
        _upgrade(message),
        (
            *message.tidied,
            *_behind(message),
            *(["the body is shorter than was announced"] if message.cut else []),
            *target.changes,
            *_changed("path", target.path, path),
            *_changed("host", target.authority, host_only(authority)),
            *changes,
        ),
    )


def _behind(message: Message) -> tuple[str, ...]:
    """Tell of bytes that a next request would be read from: most often a body without length."""
    rest = len(message.rest.strip(b"\r\n"))
    return (f"{rest} bytes behind the request are no part of it",) if rest else ()


def _changed(what: str, before: str, after: str) -> tuple[str, ...]:
    return () if before == after else (f"{what} {before} → {after}",)


def _target(message: Message, edge: Edge) -> _Target | Rejected:
    """Take the four forms of a target apart (RFC 9112 section 3.2)."""
    target, hosts = message.target, ",".join(message.values("host"))
    if message.method == "CONNECT":
        return _connect(target)
    if target.startswith("/"):
        return _Target(hosts, target)
    if target == "*" and message.method == "OPTIONS":
        return Rejected(404, "absolute_path_rejected", "`*` is no path, so no route takes it")
    return _absolute(target, hosts, edge)


def _connect(target: str) -> Rejected:
    if re.fullmatch(r"[^/:?#]+:[0-9]{1,5}", target):
        return Rejected(400, "upgrade_failed", "no route takes CONNECT")
    return Rejected(400, "http1.invalid_url", "CONNECT needs host:port")


def _absolute(target: str, hosts: str, edge: Edge) -> _Target | Rejected:
    """The URL's host counts, whatever Host says (RFC 9112 section 3.2.2)."""
    url = _ABSOLUTE.match(target)
    if url is None:
        return Rejected(400, "http1.codec_error", "the target is neither a path nor a URL")
    authority = _URL_AUTHORITY.match(url["authority"])
    problem = _scheme_problem(url["scheme"].lower(), edge) or _rest_problem(url["rest"])
    if problem is not None:
        return problem
    if authority is None:
        return Rejected(400, "http1.invalid_url", "the URL's host can't be read")
    host = authority["host"] + (authority["port"] or "")
    changes = (f"the URL's host {host} counts in place of Host: {hosts}",) if hosts else ()
    return _Target(host, url["rest"] or "/", changes)


def _scheme_problem(scheme: str, edge: Edge) -> Rejected | None:
    if scheme not in {"http", "https"}:
        return Rejected(400, "http1.invalid_scheme", f"the URL's scheme is {scheme}")
    if scheme == "https" and edge.scheme == "http":
        why = "the URL says https on a plain connection"
        return Rejected(400, "http1.https_url_on_plaintext_connection", why)
    return None


def _rest_problem(rest: str) -> Rejected | None:
    if not rest or rest.startswith("/"):
        return None
    if rest.startswith("#"):
        return Rejected(400, "http1.codec_error", "the URL has a fragment")
    return Rejected(404, "absolute_path_rejected", "the URL has no path")


def _refused(message: Message, target: _Target) -> Rejected | None:
    nominated = _nominated(message)
    if len(nominated) > _MOST_NOMINATED or any(map(_never_nominated, nominated)):
        why = "Connection names a header that mustn't be taken off, or ten and more"
        return Rejected(400, "http1.connection_header_rejected", why)
    from_url = not message.target.startswith("/")
    if not from_url and ("host" in nominated or not message.values("host")):
        return Rejected(400, "missing_host_header", "there is no Host")
    if not _AUTHORITY.match(target.authority):
        return Rejected(400, "http.invalid_authority", "Host holds a character no host may have")
    if message.method == "QUERY" and not message.values("content-type"):
        return Rejected(400, "query_missing_content_type", "QUERY needs a content type")
    return None


def _never_nominated(name: str) -> bool:
    return name.startswith(":") or name in _NEVER_NOMINATED


def _nominated(message: Message) -> list[str]:
    """Return what Connection names (RFC 9110 section 7.6.1)."""
    tokens = [t.strip().lower() for v in message.values("connection") for t in v.split(",")]
    return [token for token in tokens if token]


def _upgrade(message: Message) -> str:
    values = message.values("upgrade")
    asked = bool(values) and "upgrade" in _nominated(message)
    return values[0].lower() if asked and values[0].lower() != "h2c" else ""


def _path(target: str) -> str | Rejected:
    path, mark, query = target.partition("?")
    if "#" in query:
        return Rejected(400, "path_normalization_failed", "the query has a fragment")
    try:
        return normalised(path) + mark + query
    except NoNormalForm as error:
        return Rejected(400, "path_normalization_failed", f"the path has {error}")


def _stripped(authority: str) -> str:
    """Take off one trailing dot and a port (`strip_trailing_host_dot`, `strip_any_host_port`)."""
    name, dot, rest = authority.rpartition(".")
    if dot and (not rest or rest.startswith(":")):
        authority = name + rest
    port = _PORT.search(authority)
    numbered = port is not None and int(port[1]) <= _LARGEST_PORT
    return authority[: port.start()] if port is not None and numbered else authority


def _client(forwarded: list[str], trusted: int, address: str) -> str:
    """Return the client's address: that of the connection, or what a trusted proxy says."""
    known = [part.strip() for value in forwarded for part in value.split(",") if part.strip()]
    return known[-trusted] if 0 < trusted <= len(known) else address


def _fields(
    message: Message, edge: Edge, client: str, request_id: str
) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Return the headers that the service would see, and what was done to them."""
    gone = _OF_THE_CONNECTION | (frozenset(_nominated(message)) - {"te", "close"})
    gone -= {"expect"} if edge.interim else set()
    kept: list[tuple[str, str]] = []
    changes: list[str] = []
    forwarded = []
    for name, value in message.fields:
        if edge.removes(name):
            changes.append(f"{name} was taken off: clients may not set it")
        elif name == "x-forwarded-for":
            forwarded.append(value)
        elif name == "te":
            kept += _te(value)
        elif name in {"host", "x-request-id", "x-forwarded-proto"} or name in gone:
            continue
        else:
            kept.append((name, value))
    kept += [
        ("x-forwarded-for", ",".join([*forwarded, client])),
        ("x-forwarded-proto", edge.scheme),
        ("x-request-id", request_id),
    ]
    return tuple(kept), changes


def _te(value: str) -> list[tuple[str, str]]:
    """Only the wish for trailers goes along (RFC 9110 section 10.1.4)."""
    if not value:
        return [("te", "")]
    return [("te", "trailers")] if "trailers" in map(str.strip, value.split(",")) else []
