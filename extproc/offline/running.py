"""Running files of policy tests: what each test gave, and what no test ever reached."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from extproc.config.build import Assembly, assemble
from extproc.config.errors import ConfigError, Position, Trouble
from extproc.config.load import load
from extproc.config.policy_tests import parse
from extproc.config.schema.policy_tests import PolicyTests
from extproc.core.near import near
from extproc.offline.asked import as_sent
from extproc.offline.comparing import Difference, differences, elsewhere
from extproc.offline.credentials import Credentials, NotACredential
from extproc.offline.gate import LOOPBACK, Gate, Judgement, NotStarted
from extproc.offline.trust import TestIssuers, accept_keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from extproc.config.schema.policy_tests import PolicyTest
    from extproc.config.translate import Positions
    from extproc.offline.coverage import Coverage
    from extproc.offline.verdict import Verdict

    Judge = Callable[[bytes], Awaitable[Verdict]]
    Live = Callable[["Prepared"], AbstractAsyncContextManager[Judge]]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one test.

    Attributes:
        name: of the test.
        seconds: that it took.
        judgement: of its request, offline.
        differences: from what it expects; none where it passed.
        skipped: why it wasn't sent through Envoy; empty where it was, or wasn't to be.
    """

    name: str
    seconds: float
    judgement: Judgement
    differences: tuple[Difference, ...]
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Say whether everything was as expected."""
        return not self.differences


@dataclass(slots=True)
class FileResult:
    """What came of one file.

    Attributes:
        file: its path.
        results: of its tests, in order.
        troubles: why it, or its gateway file, can't be used.
    """

    file: str
    results: list[Result] = field(default_factory=list)
    troubles: tuple[Trouble, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file of tests, ready to run.

    Attributes:
        tests: what it says.
        gateway: the gateway file.
        assembly: the gateway file, trusting the tests' keys.
        trusting: has another assembly of the gateway file accept the same credentials.
        credentials: to be filled in.
        now: where the clock stands.
    """

    tests: PolicyTests
    gateway: Path
    assembly: Assembly
    trusting: Callable[[Assembly], None]
    credentials: Credentials
    now: float


def prepare(file: Path, environment: Mapping[str, str]) -> Prepared:
    """Read a file of tests and its gateway file, and make the tests' keys.

    Raises:
        ConfigError: one of the two can't be used.
    """
    tests, positions = parse(file, environment)
    gateway = Path(os.path.normpath(file.parent / tests.gateway))
    assembly = assemble(load(gateway, {**environment, **tests.environment}))
    issuers = TestIssuers(assembly)
    now = tests.now if tests.now is not None else time.time()
    try:
        _check_keys(tests, assembly)
        credentials = Credentials.made(tests, issuers, now)
        _check_names(tests, credentials)
    except NotACredential as error:
        raise ConfigError([_trouble(positions, error)]) from error
    accept_keys(assembly, credentials.keys)

    def trusting(other: Assembly) -> None:
        issuers.trusted_by(other)
        accept_keys(other, credentials.keys)

    return Prepared(tests, gateway, assembly, trusting, credentials, now)


def _check_keys(tests: PolicyTests, assembly: Assembly) -> None:
    models = assembly.loaded.gateway.authentication
    for name, key in tests.keys.items():
        model = models.get(key.authenticator)
        if model is None or model.api_key is None:
            where = ("keys", name, "authenticator")
            expected = "expected an authenticator with `api_key`"
            raise NotACredential(where, f"names {key.authenticator}", expected)


def _check_names(tests: PolicyTests, credentials: Credentials) -> None:
    for number, test in enumerate(tests.tests):
        name = credentials.undeclared(test.request)
        if name:
            problem = f"has a header that is {{{name}}}, which isn't declared"
            expected = near(name, credentials.texts) or "expected it under tokens or keys"
            raise NotACredential(("tests", number, "request"), problem, expected)


def _trouble(positions: Positions, error: NotACredential) -> Trouble:
    at = positions.of_value(error.key)
    return Trouble(at, positions.named(error.key), error.problem, error.expected)


async def run(
    file: Path, environment: Mapping[str, str], coverage: Coverage, live: Live | None = None
) -> FileResult:
    """Run one file.

    Args:
        file: its path.
        environment: for the gateway file.
        coverage: counts rules.
        live: opens a real Envoy that gives verdicts too; None without one.
    """
    outcome = FileResult(str(file))
    try:
        prepared = prepare(file, environment)
    except ConfigError as error:
        outcome.troubles = error.troubles
        return outcome
    try:
        await _offline(prepared, outcome, coverage)
    except NotStarted as error:
        outcome.troubles = (Trouble(Position(str(prepared.gateway)), "", str(error)),)
        return outcome
    if live is not None:
        async with live(prepared) as judge:
            outcome.results = [
                await _through_envoy(prepared, test, result, judge)
                for test, result in zip(prepared.tests.tests, outcome.results, strict=True)
            ]
    return outcome


async def _offline(prepared: Prepared, outcome: FileResult, coverage: Coverage) -> None:
    gateway = str(prepared.gateway)
    coverage.expect(gateway, prepared.assembly)
    gate = Gate(prepared.assembly, prepared.now)
    await gate.start()
    try:
        for test in prepared.tests.tests:
            started = time.perf_counter()
            judgement = await gate.judge(request_of(prepared, test), test.address)
            found = differences(test.expect, judgement.verdict)
            seconds = time.perf_counter() - started
            outcome.results.append(Result(test.name, seconds, judgement, tuple(found)))
            coverage.take(gateway, (r for step in judgement.steps for r in step.rules))
    finally:
        await gate.stop()


def request_of(prepared: Prepared, test: PolicyTest) -> bytes:
    """Return a test's request as it is sent."""
    return as_sent(prepared.credentials.filled(test.request))


async def _through_envoy(
    prepared: Prepared,
    test: PolicyTest,
    result: Result,
    judge: Judge,
) -> Result:
    """Send the same bytes through a real Envoy; a difference is a failure of its own."""
    if test.address != LOOPBACK:
        return replace(result, skipped="it comes from another address than a live one can")
    if result.judgement.waits:
        return replace(result, skipped="its body is shorter than was announced: Envoy would wait")
    verdict = await judge(request_of(prepared, test))
    found = elsewhere(result.judgement.verdict, verdict)
    return replace(result, differences=(*result.differences, *found))


def troubled(files: list[FileResult]) -> Iterator[Trouble]:
    """Yield why files can't be used, each reason once."""
    yield from dict.fromkeys(trouble for file in files for trouble in file.troubles)
