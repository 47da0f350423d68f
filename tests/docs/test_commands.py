"""Commands that try things out are documented with every option they take."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from extproc.cli import application

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
