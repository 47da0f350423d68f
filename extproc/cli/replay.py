"""`extproc replay`: recorded decisions against another gateway file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extproc.cli.options import Json, assembled, fail
from extproc.cli.reading import Unreadable, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from extproc.config.replaying import Outcome, Replay

_CHANGES, _NOTHING, _UNKNOWN = 1, 2, 3
_SHOWN_EVERY = 100_000


def replay(
    decisions: Annotated[
        Path,
        typer.Argument(
            help="Decision records, one JSON line each; - for standard input.",
            metavar="DECISIONS",
            show_default=False,
        ),
    ],
    *,
    against: Annotated[Path, typer.Option(help="The gateway file to judge by.", metavar="GATEWAY")],
    as_json: Json = False,
) -> None:
    """Say which recorded decisions would change, and by which rule.

    Works from the inputs that records hold. A policy that reads something else is unknown for a
    record. Exits 1 if any decision changes, 3 if some are unknown and none changes, 2 if there is
    no record.
    """
    from extproc.config.replaying import Replay

    subject = Replay(assembled(against))
    try:
        other = _taken(subject, decisions)
    except Unreadable as error:
        fail(f"extproc replay: {error}", _NOTHING)
    outcome = subject.outcome
    if not outcome.records:
        fail(f"{decisions}: no decision record among {other} lines, nothing was judged", _NOTHING)
    typer.echo(_as_json(outcome, other) if as_json else _as_text(outcome, other))
    if outcome.changed:
        raise typer.Exit(_CHANGES)
    if outcome.unknown:
        raise typer.Exit(_UNKNOWN)


def _taken(subject: Replay, decisions: Path) -> int:
    """Judge every record; return how many lines are none."""
    other = 0
    for number, record in enumerate(_records(decisions), 1):
        if record is None:
            other += 1
        else:
            subject.take(record)
        if number % _SHOWN_EVERY == 0 and sys.stderr.isatty():
            typer.echo(f"{number} lines", err=True)
    return other


def _records(path: Path) -> Iterator[Mapping[str, Any] | None]:
    """Yield each line's record; None for a line that is none (a log's, for example)."""
    from extproc.offline.recorded import record_of

    yield from map(record_of, lines(path))


def _as_text(outcome: Outcome, other: int) -> str:
    said = []
    for change, count in outcome.changes.most_common():
        was, would = (" by ".join(filter(None, words)) for words in (change.was, change.would))
        if change.would[0] == "unknown":
            would = f"unknown: {change.would[1]} was not recorded"
        example = outcome.examples[change]
        said.append(f"{count:>8}  {change.route}: {was} -> {would}  (for example {example})")
    summary = (
        f"{outcome.records} records: {outcome.same} the same, {outcome.changed} change, "
        f"{outcome.unknown} unknown, {outcome.elsewhere} not decided by policies"
    )
    if other:
        summary += f"; {other} lines are no decision records"
    return "\n".join([*said, summary])


def _as_json(outcome: Outcome, other: int) -> str:
    changes = [
        {
            "route": change.route,
            "was": {"decision": change.was[0], "rule": change.was[1] or None},
            "would": {"decision": change.would[0], "rule": change.would[1] or None},
            "count": count,
            "example": outcome.examples[change],
        }
        for change, count in outcome.changes.most_common()
    ]
    document = {
        "records": outcome.records,
        "same": outcome.same,
        "changed": outcome.changed,
        "unknown": outcome.unknown,
        "elsewhere": outcome.elsewhere,
        "other_lines": other,
        "changes": changes,
    }
    return json.dumps(document, indent=2)
