"""The logs bloom of a block's header: which logs a block cannot have.

A bloom has 2048 bits. An address or a topic sets three of them: the low 11 bits of the first three pairs of bytes of
its keccak-256 (Yellow Paper, 4.3.1, function M3:2048). If one of the three is not set, the block has no log of it; if
all are, it may have one. So the test never misses a log, provided that the chain fills its blooms. Some do not: blooms
that are always empty (L2s and private chains), always full (Filecoin), or empty of some logs (Polygon's state sync).
:class:`BloomTrust` finds out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from Crypto.Hash import keccak

from evmlb.policy.headers import BLOOM_BYTES

_BITS = 8 * BLOOM_BYTES
_SATURATED_BITS = _BITS * 9 // 10


@lru_cache(maxsize=8192)
def bloom_mask(item: bytes) -> int:
    """The three bits that an address or topic sets, as an integer whose lowest bit is the bloom's last. Takes 10 us."""
    digest = keccak.new(digest_bits=256, data=item).digest()
    mask = 0
    for pair in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[pair : pair + 2], "big") % _BITS)
    return mask


def bloom_of(items: Iterable[bytes]) -> bytes:
    """The bloom of addresses and topics."""
    bits = 0
    for item in items:
        bits |= bloom_mask(item)
    return bits.to_bytes(BLOOM_BYTES, "big")


class BloomTrust:
    """Whether a network's blooms can be relied on.

    An empty bloom is believed from the first one that is neither empty nor full; until then every block has to be
    asked for its logs. No bloom is believed any more once a log was seen that was missing in its block's bloom.
    """

    __slots__ = ("_is_filled", "lost")

    def __init__(self) -> None:
        self.lost = False
        """Whether a bloom was found wrong: from then on the test is dropped."""
        self._is_filled = False

    def believes(self, bloom: bytes) -> bool:
        """Whether a block whose bloom rules a log out surely has no such log. Asked for each head, once."""
        if len(bloom) != BLOOM_BYTES or self.lost:
            return False
        if not self._is_filled:
            self._is_filled = 0 < int.from_bytes(bloom, "big").bit_count() < _SATURATED_BITS
        return self._is_filled

    def promises(self, bloom: bytes) -> bool:
        """Whether an empty answer is surprising where this bloom matches.

        Not if it is so full that it matches nearly everything.
        """
        return self.believes(bloom) and int.from_bytes(bloom, "big").bit_count() < _SATURATED_BITS

    def observe(self, bloom: bytes, items: Iterable[bytes]) -> bool:
        """The addresses and topics of logs that a block has; whether trust was lost by it, just now."""
        if self.lost or len(bloom) != BLOOM_BYTES:
            return False
        bits = int.from_bytes(bloom, "big")
        self.lost = any(bits & mask != mask for mask in map(bloom_mask, items))
        return self.lost
