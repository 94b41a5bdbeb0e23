"""Which clients are meant by ranges of addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


class AddressRanges:
    """Ranges as the configuration has them, such as ``10.0.0.0/8`` or ``::1/128``."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[str]) -> None:
        self._ranges = tuple(ipaddress.ip_network(each) for each in ranges)

    def __contains__(self, text: str) -> bool:
        """Whether an address is in one of them. An IPv4 address that is written as IPv6 is itself; words are none."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in each for each in self._ranges)
