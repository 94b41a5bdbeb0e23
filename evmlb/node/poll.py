"""What polling tells of a node."""

from __future__ import annotations

from dataclasses import dataclass

from evmlb.chain import Syncing


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """What one good poll brought.

    ``started_at``: when it was asked. ``chain_id`` ``None``: not asked this time. ``syncing`` ``None``: the node says
    it is done, or was not asked (one that says otherwise is asked every time). ``block_hash``, ``block_timestamp``
    and ``unix_time`` belong to the block that the network wanted confirmed: its hash and timestamp (seconds since
    1970), and our own wall clock when the answer came. Without all three nothing is confirmed.
    """

    number: int
    latency_seconds: float
    started_at: float
    chain_id: int | None = None
    syncing: Syncing | None = None
    block_hash: str | None = None
    block_timestamp: int | None = None
    unix_time: float | None = None
