"""`extproc test`: policy tests, from raw request bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extproc.cli.options import EnvoyPath, Json, fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from extproc.offline.coverage import Coverage
    from extproc.offline.running import FileResult, Live, Result
    from extproc.offline.trace import Step

_USAGE = 2


def run_tests(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files of policy tests, or folders with *_test.yaml.",
            metavar="PATH...",
            show_default=False,
        ),
    ],
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Send the same bytes through a real Envoy as well.")
    ] = False,
    envoy: EnvoyPath = None,
    require_coverage: Annotated[
        bool,
        typer.Option("--require-coverage", help="Fail if a policy rule is true in no test."),
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write results as JUnit XML.")] = None,
    as_json: Json = False,
) -> None:
    """Run policy tests; exits 1 if any fails or a file can't be used.

    Offline, by the same normalisation, routes, plugins and policies that serve traffic. With --live
    each request goes through a real Envoy too, and a difference between the two is a failure.
    """
    from extproc.config.policy_tests import files
    from extproc.offline.coverage import Coverage

    try:
        found = files(paths)
    except FileNotFoundError as error:
        fail(f"extproc test: {error}", _USAGE)
    if not found:
        fail("extproc test: no *_test.yaml there", _USAGE)
    coverage = Coverage()
    results = _run(found, coverage, _live(envoy) if live else None)
    if junit is not None:
        _write(junit, results)
    failed = any(file.troubles or not all(r.passed for r in file.results) for file in results)
    failed = failed or (require_coverage and bool(coverage.never))
    typer.echo(
        _as_json(results, coverage, ok=not failed)
        if as_json
        else "\n".join(_text(results, coverage))
    )
    if failed:
        raise typer.Exit(1)


def _run(found: list[Path], coverage: Coverage, live: Live | None) -> list[FileResult]:
    import asyncio
    import os

    from extproc.host.proxy import EnvoyFailed
    from extproc.offline.running import run

    async def everything() -> list[FileResult]:
        return [await run(file, os.environ, coverage, live) for file in found]

    try:
        return asyncio.run(everything())
    except EnvoyFailed as error:
        fail(f"extproc test: {error}")


def _live(envoy: str | None) -> Live:
    from extproc.adapters.envoy_binary import EnvoyNotFound, binary
    from extproc.host.trying import through_envoy

    try:
        return through_envoy(binary(envoy))
    except EnvoyNotFound as error:
        fail(f"extproc test: {error}")


def _write(path: Path, results: list[FileResult]) -> None:
    from extproc.offline.junit import written

    try:
        path.write_bytes(written(results))
    except OSError as error:
        fail(f"extproc test: {path} can't be written: {error.strerror}", _USAGE)


def _text(results: list[FileResult], coverage: Coverage) -> Iterator[str]:
    from extproc.offline.running import troubled

    for file in results:
        yield file.file
        for result in file.results:
            yield from _lines(result)
    yield from map(str, troubled(results))
    every = [result for file in results for result in file.results]
    failed = sum(not result.passed for result in every)
    yield f"{len(every)} tests, {failed} failed; {_covered(coverage)}"
    yield from (f"  true in no test: {policy}/{rule}  ({g})" for g, policy, rule in coverage.never)


def _lines(result: Result) -> Iterator[str]:
    yield f"  {'ok  ' if result.passed else 'FAIL'}  {result.name}"
    if result.skipped:
        yield f"        not sent live: {result.skipped}"
    width = max((len(difference.what) for difference in result.differences), default=0)
    for difference in result.differences:
        yield f"        {difference.what:<{width}}  expected {difference.expected}"
        yield f"        {'':<{width}}  got      {difference.got}"
    if not result.passed:
        yield from (f"        {line}" for line in _why(result))


def _why(result: Result) -> Iterator[str]:
    """Yield the last thing that was said of the request, so that a failure explains itself."""
    from extproc.offline.raw import Rejected
    from extproc.offline.routing import NotMatched

    judgement = result.judgement
    if isinstance(judgement.arrival, Rejected):
        yield f"because Envoy refuses it: {judgement.arrival.why}"
    elif isinstance(judgement.found, NotMatched):
        yield f"because {judgement.found.why}"
    elif judgement.steps:
        step = _telling(judgement.steps)
        yield f"because {step.plugin} {step.outcome}" + "".join(f"; {why}" for why in step.why)


def _telling(steps: tuple[Step, ...]) -> Step:
    """Return the step that says most of why a request ended as it did: not merely the last one."""
    answered = [step for step in steps if step.answered]
    judged = [step for step in steps if step.rules]
    return (answered or judged or steps)[-1]


def _covered(coverage: Coverage) -> str:
    true = coverage.rules - len(coverage.never)
    return f"{true} of {coverage.rules} policy rules were true in some test"


def _as_json(results: list[FileResult], coverage: Coverage, *, ok: bool) -> str:
    document = {
        "ok": ok,
        "files": [
            {
                "file": file.file,
                "troubles": list(map(str, file.troubles)),
                "tests": [_result(result) for result in file.results],
            }
            for file in results
        ],
        "coverage": {
            "rules": coverage.rules,
            "never_true": [
                {"gateway": gateway, "policy": policy, "rule": rule}
                for gateway, policy, rule in coverage.never
            ],
        },
    }
    return json.dumps(document, indent=2)


def _result(result: Result) -> dict[str, object]:
    verdict = result.judgement.verdict
    return {
        "name": result.name,
        "passed": result.passed,
        "decision": verdict.decision,
        "status": verdict.status,
        "reason": verdict.reason or None,
        "rule": verdict.rule or None,
        "route": verdict.route or None,
        "differences": [
            {"what": d.what, "expected": d.expected, "got": d.got} for d in result.differences
        ],
        "not_sent_live": result.skipped or None,
    }
