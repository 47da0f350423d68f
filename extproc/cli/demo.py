"""`extproc demo`: the shop example, started and explained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import extproc
from extproc.cli.options import fail


def demo(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Try everything on free ports, then stop.")
    ] = False,
) -> None:
    """Run the shop example behind a real Envoy, and print what to try with curl."""
    root = Path(extproc.__file__).parents[1]
    if not (root / "examples" / "shop" / "demo.py").is_file():
        fail("the shop example isn't installed; run this from a checkout of the project")
    command = [sys.executable, "-m", "examples.shop.demo", *(["--check"] if check else [])]
    if check:
        raise typer.Exit(subprocess.run(command, cwd=root, check=False).returncode)  # noqa: S603 - ours
    os.chdir(root)
    os.execv(sys.executable, command)  # noqa: S606 - signals go straight to it
