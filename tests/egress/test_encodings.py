"""Content codings of answers to calls."""

from __future__ import annotations

import gzip

import pytest

from extproc.adapters.egress.encodings import decoded
from extproc.core.errors import UpstreamFault


@pytest.mark.parametrize("coding", ["", "identity", "gzip", "x-gzip", "deflate", "br"])
def test_nothing_is_nothing_in_every_coding(coding: str) -> None:
    """A 204 and a 304 have no body, and may name the coding that another answer would have."""
    assert decoded(coding, b"", 10) == b""


def test_what_breaks_off_is_broken() -> None:
    """One byte is not nothing."""
    whole = gzip.compress(b"x")
    assert decoded("gzip", whole, 10) == b"x"
    for body in (whole[:1], whole[:-1], whole + b"x"):
        with pytest.raises(UpstreamFault):
            decoded("gzip", body, 10)
