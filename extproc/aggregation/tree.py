"""A plan as text: what waits for what, and what each view leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.aggregation.calls import Call
    from extproc.aggregation.plan import Plan


def tree(plan: Plan) -> Iterator[str]:
    """Yield lines: each call below the last one it waits for; what has no parent begins at once."""
    levels = _levels(plan)
    parents = {part: _parent(plan, part, levels) for part in plan.calls}
    yield from _below(plan, None, parents, "")
    for name, view in plan.views.items():
        skipped = [part for part in plan.calls if part not in view.calls]
        if skipped:
            yield f"view {name} leaves out {', '.join(skipped)}"


def _levels(plan: Plan) -> dict[str, int]:
    """Return after how many others, one after the other, each call begins."""
    levels: dict[str, int] = {}

    def level(part: str) -> int:
        if part not in levels:
            levels[part] = 1 + max(map(level, plan.needs[part]), default=-1)
        return levels[part]

    for part in plan.calls:
        level(part)
    return levels


def _parent(plan: Plan, part: str, levels: dict[str, int]) -> str | None:
    return max(sorted(plan.needs[part]), key=levels.__getitem__, default=None)


def _below(
    plan: Plan, parent: str | None, parents: dict[str, str | None], indent: str
) -> Iterator[str]:
    for part, call in plan.calls.items():
        if parents[part] == parent:
            others = sorted(plan.needs[part] - {parent})
            also = f", also waits for {', '.join(others)}" if others else ""
            yield f"{indent}{part}: {described(call)}{also}"
            yield from _below(plan, part, parents, indent + "  ")


def described(call: Call) -> str:
    """Return what a call does, in one line."""
    words = [f"{call.method} {call.upstream} {call.path.source}"]
    if call.each is not None:
        keys = f"each of {call.each.source}"
        words.append(keys if call.batch is None else f"{keys} by {call.batch.size}")
    if call.when is not None:
        words.append(f"when {call.when.expression.source}")
    if not call.required:
        words.append("not required")
    if call.fallback is not None:
        words.append(f"else {described(call.fallback)}")
    return ", ".join(words)
