"""`python -m extproc` is the command `extproc`."""

from extproc.cli import main

main()
