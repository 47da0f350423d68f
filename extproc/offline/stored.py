"""Whether a response would be stored on a route, for how long, and who could reuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extproc.caching import freshness, selecting, storing
from extproc.caching.asking import asks
from extproc.caching.control import of_response
from extproc.caching.plugin import Cache
from extproc.core.headers import Headers

if TYPE_CHECKING:
    from extproc.caching.policy import Policy
    from extproc.config.build import Assembly

_WHY_NOT = {
    "method": "only responses to GET are stored",
    "request-no-store": "the request says no-store",
    "status": "its status is no final one, or 304",
    "must-understand": "it says must-understand, and its status isn't understood",
    "no-store": "it says no-store",
    "private": "it says private, and this cache is shared",
    "set-cookie": "it sets a cookie",
    "authorization": "the request has credentials that the upstream sees, and it isn't public",
    "vary": "its Vary says *, or names too much",
    "partial": "a part of the aggregate is missing",
    "no-lifetime": "it has no lifetime, no validator and no window in which it may be stale",
    "too-large": "its Content-Length is above max_bytes",
}


class NotAResponse(ValueError):
    """The bytes are no head of a response."""


def read(raw: bytes) -> tuple[int, Headers]:
    """Read status and headers of a raw response.

    Raises:
        NotAResponse: they can't be.
    """
    head = raw.decode("latin-1").replace("\r\n", "\n").partition("\n\n")[0].split("\n")
    first = head[0].split(" ")
    if not first[0].startswith("HTTP/") or len(first) == 1 or not first[1].isdigit():
        raise NotAResponse("a response begins with a line such as HTTP/1.1 200 OK")
    headers = Headers()
    for line in filter(None, head[1:]):
        name, colon, value = line.partition(":")
        try:
            headers.add(name, value.strip(" \t"))
        except ValueError as error:
            raise NotAResponse(f"{name[:40]} is no header") from error
        if not colon:
            raise NotAResponse(f"{name[:40]} is no header")
    return int(first[1]), headers


def told(
    assembly: Assembly, route: str, method: str, request: Headers, raw: bytes, now: float
) -> list[str]:
    """Say whether a response is stored on a route, and why.

    Args:
        assembly: the gateway file.
        route: its name.
        method: of the request.
        request: its headers.
        raw: the response.
        now: when it comes, seconds since the epoch.

    Raises:
        NotAResponse: it is none.
    """
    status, headers = read(raw)
    caches = [step.plugin for step in assembly.steps[route] if isinstance(step.plugin, Cache)]
    if not caches:
        return ["not stored: the route has no cache"]
    policy = caches[0].policy
    credentials = policy.shared and caches[0].forwards and "authorization" in request
    asked = storing.Asked(method, asks(request).no_store, credentials)
    kept = storing.kept(asked, status, headers, policy, now)
    length = headers.get("content-length") or ""
    if not kept.why_not and length.isdigit() and int(length) > policy.largest:
        kept = storing.Kept("too-large")
    if kept.why_not:
        return [f"not stored: {_WHY_NOT[kept.why_not]}"]
    age = freshness.initial_age(headers, now, now)
    left = max(kept.lifetime - age, 0)
    why = _lifetime(status, headers, policy, now)
    lines = [f"stored: {why}, so it is fresh for {left:g} s from now"]
    lines += ["validated before each reuse: it says no-cache"] if kept.validate else []
    lines += ["never given stale: it says so"] if kept.never_stale else []
    if kept.while_revalidate:
        lines.append(f"given stale for {kept.while_revalidate:g} s, and validated meanwhile")
    if kept.if_error:
        lines.append(f"given stale for {kept.if_error:g} s in place of an error")
    varying = selecting.varying(headers)
    lines += [f"reused where {', '.join(varying)} say the same"] if varying else []
    return lines


def _lifetime(status: int, headers: Headers, policy: Policy, now: float) -> str:
    said = of_response(headers)
    named = freshness.lifetime(status, headers, said, now)
    if named.explicit and storing.must_be_revalidated(said):
        return f"it names {named.seconds:g} s, and no more is given to what must be revalidated"
    if policy.force_ttl is not None:
        return f"force_ttl gives it {policy.force_ttl:g} s"
    if named.explicit:
        what = "a targeted field" if said.targeted else "it"
        return f"{what} names {named.seconds:g} s"
    if str(status) in map(str, policy.statuses):
        return f"its status has {policy.statuses[status]:g} s here"
    if policy.ttl is not None:
        return f"it names no lifetime, ttl gives it {policy.ttl:g} s"
    return f"it names no lifetime, its age of change suggests {named.seconds:g} s"
