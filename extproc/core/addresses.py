"""What is an IP address, and where one stands."""

from __future__ import annotations

import ipaddress

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound here
"""Hosts that stand for every address of a machine, where something is bound to them."""


def is_loopback(host: str) -> bool:
    """Say whether a host, an IPv6 address without brackets, is this machine to itself."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(text: str) -> bool:
    """Say whether a text is an IPv4 or IPv6 address, and nothing around it."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_of(address: str) -> str:
    """Return the host of `host:port` or `[ip]:port`, an IPv6 address without brackets."""
    return address.rpartition(":")[0].strip("[]")
