"""The list of attacks: each id is a test's name, or says here where it is tested or why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LIST = {"J": 35, "P": 15, "H": 19, "F": 15, "C": 17, "B": 12, "D": 8, "L": 9}
IDS = [f"{section}{number}" for section, last in LIST.items() for number in range(1, last + 1)]

# Tested elsewhere: file::function (or file::Class::function) below `tests`.
ELSEWHERE = {
    "F1": (
        "e2e/test_failing_closed.py::TestServiceGone::test_stopped",
        "e2e/test_failing_closed.py::TestServiceGone::test_paused",
        "e2e/test_failing_closed.py::TestServiceGone::test_killed_in_the_middle",
    ),
    "F2": ("e2e/test_failing_closed.py::TestServiceMisbehaves::test_refused",),
    "F3": (
        "e2e/test_failing_closed.py::TestServiceMisbehaves::test_refused",
        "e2e/test_failing_closed.py::TestPluginFails::test_passes_its_deadline",
    ),
    "F4": (
        "e2e/test_failing_closed.py::TestServiceMisbehaves::test_refused",
        "adapters/test_wire.py::test_any_bytes_are_an_event_or_the_declared_error",
    ),
    "F5": (
        "fuzz/test_fuzz.py::test_mutated_inputs_raise_nothing_undeclared",
        "e2e/test_failing_closed.py::TestPluginFails::test_raises_on_the_way_in",
    ),
    "F7": (
        "envoy_config/test_compile.py::test_no_reachable_route_is_without_its_filters",
        "envoy_config/test_compile.py::test_the_filter_itself_is_off_and_closed",
    ),
    "F9": (
        "config/test_load.py::test_what_can_not_be_filled_in",
        "config/test_load.py::test_errors_say_where_what_and_what_instead",
        "e2e/test_reload.py::test_a_broken_file_keeps_the_old_version",
    ),
    "F10": ("e2e/test_reload.py::test_fifty_reloads_under_load",),
    "F14": (
        "e2e/test_reload.py::test_fifty_reloads_under_load",
        "e2e/test_workers.py::test_a_killed_worker_loses_only_what_it_held",
    ),
    "B11": ("aggregation/test_kinds.py::test_b11_xml_that_is_not_read",),
    "D2": (
        "e2e/test_local_server.py::test_clients_that_reset_right_after_their_headers",
        "local/test_peer.py::test_resets_in_the_same_read_as_the_message",
    ),
    "D8": (
        "adapters/test_envoy_binary.py::test_too_old",
        "attacks/test_tokens.py::test_J27_two_tokens",
    ),
    "L6": (
        "e2e/test_decisions.py::test_no_exchange_is_missing",
        "e2e/test_decisions.py::test_what_was_never_judged_is_recorded_by_envoy",
        "adapters/test_decision_log.py::test_dropped_records_are_counted_and_leave_a_gap",
    ),
    "L8": (
        "config/test_load.py::test_what_can_not_be_filled_in",
        "config/test_gateways.py::test_links_to_files_elsewhere_are_refused",
    ),
}

# Nothing to attack: why.
NOT_APPLICABLE: dict[str, str] = {}

# Parts of this version that are being built: to be taken out with their tests.
PENDING: dict[str, str] = {}

# What a line of the list asks for beyond what its tests try, said out loud.
PARTLY = {
    "J9": "secrets are judged by length and against those of tutorials, not all 103,979",
    "B10": "fan-out, depth and deadlines are tried in e2e/test_calls.py",
    "B11": "XML; multipart and forms are not transformed",
    "F15": "local replies and retries; redirects and mirrors are no part of a gateway file",
    "H7": "bytes over 0x7f and folded lines are legal (RFC 9110): judged as they are, not refused",
    "H11": "white space after a method is the gap for Envoy; what is judged is what is sent",
    "P5": "`/admin;x=1` is another path than `/admin` for a route; a list of what is allowed helps",
}


def functions() -> dict[str, set[str]]:
    """Return the tests of each file, with their class where they have one."""
    found: dict[str, set[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        names, inside = set(), ""
        for line in file.read_text().splitlines():
            if match := re.match(r"class (\w+)", line):
                inside = f"{match[1]}::"
            elif match := re.match(r"( *)(?:async )?def (test_\w+)", line):
                names.add((inside if match[1] else "") + match[2])
        found[file.relative_to(TESTS).as_posix()] = names
    return found


FUNCTIONS = functions()


def named() -> set[str]:
    """Return the ids that tests have in their names, as `test_J16_` or `test_j14_j15_`."""
    every = {name.rpartition("::")[2] for names in FUNCTIONS.values() for name in names}
    ids = re.compile(r"_([BCDFHJLP]\d+)(?=_)", re.IGNORECASE)
    return {part.upper() for name in every for part in ids.findall(name)}


@pytest.mark.parametrize("attack", IDS)
def test_every_attack_is_tested_or_says_why_not(attack: str) -> None:
    """An id that is nowhere is a hole."""
    assert attack in named() | ELSEWHERE.keys() | NOT_APPLICABLE.keys() | PENDING.keys()


@pytest.mark.parametrize("attack", ELSEWHERE)
def test_what_is_named_exists(attack: str) -> None:
    """A test that was renamed is noticed."""
    for place in ELSEWHERE[attack]:
        file, _, name = place.partition("::")
        assert name in FUNCTIONS[file], place


def test_the_tables_hold_nothing_else() -> None:
    """Each id is one of the list's, and what is pending has no test yet in this folder."""
    tables = {*ELSEWHERE, *NOT_APPLICABLE, *PENDING, *PARTLY}
    assert tables <= set(IDS)
    here = {
        name for file, names in FUNCTIONS.items() if file.startswith("attacks/") for name in names
    }
    for attack in PENDING:
        assert not [name for name in here if f"_{attack}_" in name], f"{attack} has a test now"
