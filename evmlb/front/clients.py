"""Who the client is: the peer, or what a trusted proxy says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_MEMO_ENTRIES = 4096
UNIX_PEER = "unix"
"""What a peer without an address is called: a process on this machine, as near as one on loopback."""


class ClientAddresses:
    """Reads X-Forwarded-For as far as it can be believed.

    The client is the last address of the list that is not a trusted proxy's, when the peer is one; else the peer.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(network) for network in trusted)
        self._memo: dict[tuple[str, bytes], str] = {}

    def client(self, peer: str, forwarded_for: bytes) -> str:
        """The client's address. ``forwarded_for`` is the header's value, empty when there is none."""
        if not forwarded_for:
            return peer
        known = self._memo.get((peer, forwarded_for))
        if known is None:
            known = self._read(peer, forwarded_for)
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            self._memo[peer, forwarded_for] = known
        return known

    def is_trusted(self, address: str) -> bool:
        """Whether an address is a proxy's that may speak for others."""
        if address == UNIX_PEER:
            return True
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted if network.version == parsed.version)

    def _read(self, peer: str, forwarded_for: bytes) -> str:
        client = peer
        hops = [hop.strip() for hop in forwarded_for.decode("latin-1").split(",")]
        while hops and self.is_trusted(client):
            hop = hops.pop()
            try:
                client = str(ipaddress.ip_address(hop))
            except ValueError:
                return client  # not an address: nothing before it can be believed either
        return client

    def line(self, peer: str, value: bytes) -> bytes:
        """The X-Forwarded-For line to send on: the peer appended to what a trusted one said, else the peer alone."""
        known = value if self.is_trusted(peer) else b""
        own = b"" if peer == UNIX_PEER else peer.encode()
        hops = b", ".join(part for part in (known, own) if part)
        return b"X-Forwarded-For: %b\r\n" % hops if hops else b""


def plain_address(host: str) -> str:
    """A peer's address as people write it: an IPv4 client of a dual-stack socket without its ``::ffff:``."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host
