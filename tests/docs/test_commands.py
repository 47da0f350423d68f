"""Commands that try things out are documented with every option they take."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from extproc.cli import application
from tests.support.compiled import COMPILED

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


@pytest.mark.parametrize("name", ["explain", "test", "token"])
def test_every_option_is_documented(name: str) -> None:
    """On the page about trying and testing."""
    text = PAGE.read_text()
    command = typer.main.get_command(application).commands[name]  # type: ignore[attr-defined]
    options = [
        option
        for parameter in command.params
        if parameter.param_type_name == "option"
        for option in parameter.opts
    ]
    assert len(options) > 4
    for option in options:
        assert option in text, option


def test_the_list_of_commands_is_readable() -> None:
    """Each says what it does within a line of 80 characters."""
    said = CliRunner().invoke(application, ["--help"], terminal_width=80).stdout
    commands = said.partition("Commands:\n")[2].splitlines()
    assert len(commands) >= 13
    for line in commands:
        assert re.fullmatch(r"  [a-z]+ +\S.*[^.]\.", line), line


def test_the_version() -> None:
    """That of the package; no command is needed."""
    done = CliRunner().invoke(application, ["--version"])
    compiled = " (compiled)" if COMPILED else ""
    assert (done.exit_code, done.stdout) == (0, f"extproc {version('extproc')}{compiled}\n")
