"""What Ethereum's JSON-RPC says about a chain, as values.

Quantities are hex strings without leading zeros (execution-apis, "Hex value encoding"); nodes and clients are read
more leniently than they should write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


def parse_quantity(value: object) -> int | None:
    """The number that a JSON-RPC quantity names, or ``None`` if it is none (a null, a float, words, too long)."""
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return int(value, 16)
    return None


@dataclass(frozen=True, slots=True)
class Syncing:
    """A node's own word that it is not done: the distance, in blocks, that it reports (0 when it reports none)."""

    distance_blocks: int


def parse_syncing(result: object) -> Syncing | None:
    """What an ``eth_syncing`` result says; ``None`` for ``false`` and for anything that is no sync status.

    The distance is ``highestBlock - currentBlock`` where both are there, never below zero.
    """
    if result is True:
        return Syncing(0)
    if not isinstance(result, dict):
        return None
    current = parse_quantity(result.get("currentBlock"))
    highest = parse_quantity(result.get("highestBlock"))
    if current is None or highest is None:
        return Syncing(0)
    return Syncing(max(0, highest - current))
