"""Who the client is: the peer, or what a trusted proxy says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from evmlb.memo import Memo
from evmlb.policy.addresses import AddressRanges

_MEMO_BYTES = 1024 * 1024
_MEMO_ENTRY_BYTES = 512
MAX_HOPS = 32
"""So many addresses at the end of X-Forwarded-For are read. No more proxies of one's own stand in a row."""
UNIX_PEER = "unix"
"""What a peer without an address is called: a process on this machine, as near as one on loopback."""


class ClientAddresses:
    """Reads X-Forwarded-For as far as it can be believed.

    The client is the last address of the list that is not a trusted proxy's, when the peer is one; else the peer.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = AddressRanges(trusted)
        self._memo: Memo[tuple[str, bytes], str] = Memo(_MEMO_BYTES, _MEMO_ENTRY_BYTES)

    def client(self, peer: str, forwarded_for: bytes) -> str:
        """The client's address. ``forwarded_for`` is the header's value, empty when there is none."""
        if not forwarded_for:
            return peer
        known = self._memo.get((peer, forwarded_for))
        if known is None:
            known = self._read(peer, forwarded_for)
            self._memo.keep((peer, forwarded_for), known, len(peer) + len(forwarded_for) + len(known))
        return known

    def is_trusted(self, address: str) -> bool:
        """Whether an address is a proxy's that may speak for others."""
        return address == UNIX_PEER or address in self._trusted

    def _read(self, peer: str, forwarded_for: bytes) -> str:
        client = peer
        last = forwarded_for.rsplit(b",", MAX_HOPS)
        hops = [hop.decode("latin-1").strip() for hop in (last if len(last) <= MAX_HOPS else last[1:])]
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
