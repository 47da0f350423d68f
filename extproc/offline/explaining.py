"""Why a plugin did what it did, told from what it is made of and what the request is now.

One small function for each of the gateway's own plugins; a plugin of one's own is told by what it
changed. Conditions are evaluated once more for this, all of them, beside the enforcement, which
stops at the first rule that decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from extproc.authentication.assertion import Assertion
from extproc.authentication.plugin import Authenticate
from extproc.authentication.tokens import Refused
from extproc.authorization.bodies import WrongBody, body_of
from extproc.authorization.plugin import Authorize, AuthorizeBody, Consumers
from extproc.authorization.policies import Deny, judged
from extproc.caching.changes import SAFE
from extproc.caching.plugin import Cache
from extproc.core.values import MalformedRequest, Response
from extproc.expressions.conditions import Context, EvaluationFailed
from extproc.transformation.plugins import Identity, ResponseBody

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from extproc.authorization.policies import Policy, Rule
    from extproc.caching.policy import Policy as CachePolicy
    from extproc.core.guard import Answer
    from extproc.core.plugin import Plugin
    from extproc.core.values import Request
    from extproc.expressions.conditions import Condition


_PLACES = {"InHeader": "in a header", "InCookie": "in a cookie", "InQuery": "in the query"}


@dataclass(frozen=True, slots=True)
class RuleSeen:
    """One rule and what it gave.

    Attributes:
        policy: its policy.
        name: its name.
        effect: `allow` or `deny`.
        result: `true`, `false`, `error`, or `unknown` where a record doesn't hold what it reads.
        decided: it made the decision of its policy.
        candidate: it belongs to a candidate, which is never enforced.
        source: its condition.
        problem: why the result is `error`; else empty.
    """

    policy: str
    name: str
    effect: str
    result: str
    decided: bool
    candidate: bool
    source: str
    problem: str = ""


@dataclass(slots=True)
class Explanation:
    """What is said of one hook."""

    why: list[str] = field(default_factory=list)
    rules: list[RuleSeen] = field(default_factory=list)
    reads: dict[str, Any] = field(default_factory=dict)


def explained(plugin: Plugin, request: Request, now: float, answer: Answer) -> Explanation:
    """Explain what a plugin's hook did to a request.

    Args:
        plugin: the plugin.
        request: as the plugin left it.
        now: seconds since the epoch.
        answer: what the hook gave.
    """
    return _explain(plugin, request, now, answer)


@singledispatch
def _explain(_plugin: Plugin, _request: Request, _now: float, _answer: Answer) -> Explanation:
    return Explanation()


@_explain.register(Authenticate)
def _authenticate(
    plugin: Authenticate, request: Request, _now: float, answer: Answer
) -> Explanation:
    presented = [_kind(scheme) for scheme in plugin.schemes if _presents(scheme, request)]
    why = [f"credential: {', '.join(presented)}" if presented else "no credential was presented"]
    facts = request.noted
    if isinstance(answer, Response):
        reason = facts.reason if facts is not None else ""
        why.append(f"refused: {reason}" if reason else "the route needs one")
    elif request.principal.kind == "anonymous":
        why.append("the route lets anonymous requests on")
    else:
        scopes = " ".join(request.principal.scopes)
        why.append(f"accepted by {request.principal.authenticator}; scopes: {scopes or '(none)'}")
    return Explanation(why)


def _kind(scheme: object) -> str:
    """Name the place of a credential: its authenticator where there is one, else the kind."""
    name = getattr(scheme, "name", "")
    return str(name) if name else _PLACES.get(type(scheme).__name__, type(scheme).__name__)


def _presents(scheme: Any, request: Request) -> bool:
    try:
        return scheme.presented(request) is not None
    except (Refused, MalformedRequest):  # something is there, and can't be read as a credential
        return True


@_explain.register(Consumers)
def _consumers(plugin: Consumers, request: Request, now: float, _answer: Answer) -> Explanation:
    if request.principal.consumer:
        return Explanation([f"the credential itself names {request.principal.consumer}"])
    context = Context(request, now)
    why = []
    for name, condition in plugin.consumers:
        result = result_of(condition, context)
        why.append(f"{name}: {result}  {condition.expression.source}")
        if result == "true":
            break
    return Explanation(why)


@_explain.register(Authorize)
def _authorize(plugin: Authorize, request: Request, now: float, answer: Answer) -> Explanation:
    return _policies(plugin.policies, Context(request, now), answer)


@_explain.register(AuthorizeBody)
def _authorize_body(
    plugin: AuthorizeBody, request: Request, now: float, answer: Answer
) -> Explanation:
    try:
        body = body_of(request, request.body or b"", plugin.read)
    except WrongBody as error:
        return Explanation([str(error)])
    return _policies(plugin.policies, Context(request, now, body=body), answer)


def _policies(policies: Sequence[Policy], context: Context, answer: Answer) -> Explanation:
    """Tell every rule, and which of them decided."""
    facts = context.request.facts
    explanation = Explanation(reads=dict(facts.inputs or {}), rules=rules_of(policies, context))
    if isinstance(answer, Response) and not facts.rule:
        explanation.why.append(facts.reason.replace("_", " "))
    elif facts.rule:
        explanation.why.append(f"decided by {facts.rule}")
    if facts.candidate is not None:
        decision, rule = facts.candidate
        explanation.why.append(f"the candidate would {decision}{f' by {rule}' if rule else ''}")
    return explanation


def policies_of(plugin: Plugin) -> tuple[Policy, ...]:
    """Return the policies that a plugin judges by."""
    return plugin.policies if isinstance(plugin, Authorize | AuthorizeBody) else ()


@_explain.register(Cache)
def _cache(plugin: Cache, request: Request, _now: float, _answer: Answer) -> Explanation:
    said = request.facts.cache
    told = {
        "method": f"{request.method} is never answered from the store"
        + (
            "; a response without error makes what is stored for this URI void"
            if request.method not in SAFE
            else ""
        ),
        "bypass": "a bypass condition holds, so the cache is passed by",
    }
    why = told.get(said, f"lookup: {said}; nothing is stored offline, so it is always a miss")
    keyed = ["scheme", "host", _keyed_query(plugin), "Vary"]
    keyed += [name for name, _ in plugin.key.parts] + [*plugin.key.headers, *plugin.key.secrets]
    return Explanation([why, f"in the key: {', '.join(keyed)}", _lifetimes(plugin.policy)])


def _keyed_query(plugin: Cache) -> str:
    parameters = plugin.key.parameters
    if parameters is None:
        return "path and query"
    return f"path and the parameters {', '.join(sorted(parameters)) or '(none)'}"


def _lifetimes(policy: CachePolicy) -> str:
    if policy.force_ttl is not None:
        return f"stored for {policy.force_ttl:g} s, whatever lifetime the response names"
    said = (
        "stored for as long as the response names"
        if policy.ttl is None
        else f"stored for {policy.ttl:g} s where the response names no lifetime"
    )
    bounds = [f"at least {policy.min_ttl:g} s"] if policy.min_ttl else []
    bounds += [f"at most {policy.max_ttl:g} s"] if policy.max_ttl is not None else []
    never = "never with no-store, private or Set-Cookie"
    return "; ".join([said, *bounds, never])


@_explain.register(Identity)
def _identity(plugin: Identity, request: Request, _now: float, _answer: Answer) -> Explanation:
    if not plugin.send:
        return Explanation(["identity: none sends no identity to this upstream"])
    if request.principal.kind == "anonymous":
        return Explanation(["nobody is known, so no identity is sent"])
    return Explanation()


@_explain.register(Assertion)
def _assertion(plugin: Assertion, _request: Request, _now: float, _answer: Answer) -> Explanation:
    if not plugin.send:
        return Explanation(["identity: none sends no assertion to this upstream"])
    return Explanation(["signed with a key made for this explanation, which no backend accepts"])


@_explain.register(ResponseBody)
def _response_body(
    _plugin: ResponseBody, _request: Request, _now: float, _answer: Answer
) -> Explanation:
    return Explanation(["asks for a whole, uncompressed answer, which it shapes"])


def result_of(condition: Condition, context: Context) -> str:
    """Evaluate a condition to a word."""
    return _evaluated(condition, context)[0]


def _evaluated(condition: Condition, context: Context) -> tuple[str, str]:
    """Evaluate a condition to a word, and to why it is `error`."""
    try:
        return ("true" if condition.holds(context) else "false"), ""
    except EvaluationFailed as error:
        return "error", error.problem
    except MalformedRequest as error:
        return "error", str(error)


def rules_of(policies: Sequence[Policy], context: Context) -> list[RuleSeen]:
    """Evaluate every rule of policies and of their candidates, decided or not."""
    seen: list[RuleSeen] = []
    for policy in policies:
        seen += _of(policy, context, candidate=False)
        if policy.candidate is not None:
            seen += _of(policy.candidate, context, candidate=True)
    return seen


def _of(policy: Policy, context: Context, *, candidate: bool) -> Iterable[RuleSeen]:
    decider = _decider(policy, context)
    for rule in policy.rules:
        result, problem = _evaluated(rule.condition, context)
        yield RuleSeen(
            policy.name,
            rule.name,
            "deny" if rule.denies else "allow",
            result,
            rule is decider,
            candidate,
            rule.condition.expression.source,
            problem,
        )


def _decider(policy: Policy, context: Context) -> Rule | None:
    """Return the rule that made a policy's decision; None where none did."""
    try:
        decision = judged([policy], context)
    except MalformedRequest:
        return None
    denies = isinstance(decision, Deny)
    named = (rule for rule in policy.rules if rule.name == decision.rule)
    return next((rule for rule in named if rule.denies == denies), None)
