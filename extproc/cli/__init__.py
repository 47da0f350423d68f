"""The command line: one small module for each command, put together here."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from extproc.cli import (
    check,
    demo,
    envoy,
    explain,
    key,
    policy_tests,
    purge,
    replay,
    revoke,
    run,
    schema,
    serve,
    token,
)
from extproc.core import exchange

application = typer.Typer(
    name="extproc",
    help="A programmable API gateway on Envoy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# What `--help` lists is one line of 80 characters for each.
application.command(short_help="Run Envoy and the service, supervised.")(run.run)
application.command()(serve.serve)
application.command(short_help="Validate a gateway file.")(check.check)
application.command(short_help="Print what Envoy is configured with, as JSON.")(envoy.envoy)
application.command()(schema.schema)
application.command()(explain.explain)
application.command("test", short_help="Run policy tests.")(policy_tests.run_tests)
application.command()(replay.replay)
application.command()(revoke.revoke)
application.command()(purge.purge)
application.add_typer(key.application, name="key")
application.command(short_help="Print a signed token, to try things with.")(token.token)
application.command(short_help="Run the shop example, and print what to try.")(demo.demo)


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - as the library calls it
    if wanted:
        compiled = " (compiled)" if Path(exchange.__file__).suffix != ".py" else ""
        typer.echo(f"extproc {version('extproc')}{compiled}")
        raise typer.Exit


@application.callback()
def _itself(
    _version: Annotated[  # noqa: FBT002 - as above
        bool,
        typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Take what isn't of one command."""


def main() -> None:
    """Run the command line; a message for a person, never a traceback."""
    _open_what_is_closed()
    try:
        application()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # a full disk behind standard output, for example
        sys.stderr.write(f"extproc: {error.strerror or error}\n")
        sys.stderr.flush()
        os._exit(1)  # what is left to be written can't be, and would be tried once more


def _open_what_is_closed() -> None:
    """Put nothing in the place of standard streams that whoever started this has closed.

    Else what is opened next, a socket for example, would take their descriptors, and workers and
    Envoy would write there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode)  # noqa: SIM115 - for as long as this runs
            os.set_inheritable(stream.fileno(), True)  # noqa: FBT003 - the library's
            setattr(sys, name, stream)
