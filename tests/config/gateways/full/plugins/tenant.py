"""A plugin, as people write them."""

from __future__ import annotations

from extproc import Plugin


class Tenant(Plugin):
    """Does nothing."""

    header: str = "x-tenant"
