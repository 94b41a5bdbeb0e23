"""When a null is to be doubted.

``null`` is a good answer for what does not exist, and a wrong one from a node that has not got it yet. Two signs:

* a block is asked for by a number that the chainhead has reached, or by a tag that always names a block;
* something is asked for by hash, and the node that said null is behind the chainhead.

A doubted null is asked once elsewhere; nobody is blamed.
"""

from __future__ import annotations

import msgspec

from evmlb.policy.blocks import BlockReference, block_reference

_BY_NUMBER = frozenset(
    (
        "eth_getBlockByNumber",
        "eth_getHeaderByNumber",
        "eth_getBlockReceipts",
        "eth_getBlockTransactionCountByNumber",
    )
)
_BY_HASH = frozenset(
    (
        "eth_getBlockByHash",
        "eth_getHeaderByHash",
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "eth_getBlockTransactionCountByHash",
        "eth_getBlockReceipts",
    )
)
_ALWAYS_THERE = frozenset(("latest", "earliest"))


def is_doubtful(method: str, params: msgspec.Raw, chainhead: int | None, node_head: int | None) -> bool:
    """Whether a null from a node with this head should be asked for once more elsewhere."""
    if chainhead is None or (method not in _BY_NUMBER and method not in _BY_HASH):
        return False
    if method in _BY_NUMBER and _should_be_there(block_reference(method, params), chainhead):
        return True
    return method in _BY_HASH and node_head is not None and node_head < chainhead


def _should_be_there(block: BlockReference | None, chainhead: int) -> bool:
    if block is None:
        return False
    return block.tag in _ALWAYS_THERE or (block.number is not None and block.number <= chainhead)
