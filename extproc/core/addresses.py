"""What is an IP address."""

from __future__ import annotations

import ipaddress


def is_address(text: str) -> bool:
    """Say whether a text is an IPv4 or IPv6 address, and nothing around it."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
