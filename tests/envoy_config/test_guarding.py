"""Paths that two could read in two ways, in the words of Envoy's routes."""

from __future__ import annotations

import re

import pytest

from extproc.core.paths import NoNormalForm, normalised
from extproc.envoy_config import guarding


@pytest.mark.parametrize("number", range(256))
def test_an_escape_is_refused_where_it_has_another_form(number: int) -> None:
    """As the service reads paths, in capitals or not."""
    for escape in (f"%{number:02X}", f"%{number:02x}"):
        path = f"/a{escape}b"
        try:
            same = normalised(path) == path
        except NoNormalForm:
            same = False
        assert (re.fullmatch(guarding._AMBIGUOUS, path) is None) is same
