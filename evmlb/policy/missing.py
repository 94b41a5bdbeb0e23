"""When "not there" is the last word, and when another node may have what this one lacks.

A node that lacks a block or a transaction is passed over for the next (the verdict's ``not_there_yet``). That helps
only if another node can have it, so an error is the client's at once:

* for a block, or a range up to a block, above all that the chain can have reached by now;
* for a transaction, from a node that has reached the chainhead: as with a null (:mod:`.nulls`), a node that is not
  behind is believed.

A block by its hash may have been made a moment ago, so all are asked for it.
"""

from __future__ import annotations

import msgspec

from evmlb.policy.blocks import block_reference

__all__ = ["may_be_elsewhere"]

_BY_TRANSACTION = frozenset(
    (
        "arbtrace_transaction",
        "debug_getRawTransaction",
        "debug_traceTransaction",
        "eth_getRawTransactionByHash",
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "trace_get",
        "trace_replayTransaction",
        "trace_transaction",
    )
)


def may_be_elsewhere(
    method: str, params: msgspec.Raw, chainhead: int | None, node_head: int | None, *, new_blocks: int = 0
) -> bool:
    """Whether another node may have what a node with this head says is not there.

    ``new_blocks``: as many may have come since the chainhead was told; one more is taken to be on its way.
    """
    if chainhead is None:
        return True
    if method in _BY_TRANSACTION:
        return node_head is None or node_head < chainhead
    reference = block_reference(method, params)
    return reference is None or reference.number is None or reference.number <= chainhead + new_blocks + 1
