"""What is known about each JSON-RPC method before it is sent.

The class of a method decides how long its answer may take and whether the call may be sent twice:

========  ==============================================  ==============  ==================
class     examples                                        first byte      repeated elsewhere
========  ==============================================  ==============  ==================
fast      eth_blockNumber, eth_getBalance                 ``rpc_timeout``  yes
slow      eth_getLogs, eth_call, debug_*, unknown ones    ``slow_timeout`` yes, but not after that time-out
unsafe    eth_sendTransaction, filter creation            ``rpc_timeout``  only if surely not received
refused   engine_*, admin_*, personal_*, debug_setHead    never sent      never
========  ==============================================  ==============  ==================

Refused are the methods that are for a node's operator, not for the clients of a balancer: those that change or profile
the node, use the keys that it holds, or belong to its consensus client. All but the last, ``engine_*``, may be allowed
for a network, by name or pattern (:class:`Allowed`); they are unsafe then.

A method that is not listed is slow: nothing is known of it, so it gets time, and reading twice is harmless in
practice for everything that is not named unsafe.
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterable


class MethodClass(enum.IntEnum):
    """How a call may be treated; the larger of two is the stricter, which is what a batch takes."""

    FAST = 0
    SLOW = 1
    UNSAFE = 2
    REFUSED = 3


FAST, SLOW, UNSAFE, REFUSED = MethodClass
"""The members by name: asking the enumeration for one costs 70 ns, and the hot path asks four times."""

_FAST = """
    eth_accounts eth_blobBaseFee eth_blockNumber eth_chainId eth_coinbase eth_config eth_feeHistory eth_gasPrice
    eth_getBalance eth_getBlockByHash eth_getBlockByNumber eth_getBlockReceipts eth_getBlockTransactionCountByHash
    eth_getBlockTransactionCountByNumber eth_getCode eth_getHeaderByHash eth_getHeaderByNumber
    eth_getRawTransactionByHash eth_getStorageAt eth_getTransactionByBlockHashAndIndex
    eth_getTransactionByBlockNumberAndIndex eth_getTransactionByHash eth_getTransactionCount eth_getTransactionReceipt
    eth_getUncleByBlockHashAndIndex eth_getUncleByBlockNumberAndIndex eth_getUncleCountByBlockHash
    eth_getUncleCountByBlockNumber eth_hashrate eth_maxPriorityFeePerGas eth_mining eth_protocolVersion eth_syncing
    net_listening net_peerCount net_version rpc_modules web3_clientVersion web3_sha3
"""

# Filters live in one node, so a filter created twice is a leak there; getFilterChanges *consumes* what it returns.
_FILTER_CREATION = "eth_newFilter eth_newBlockFilter eth_newPendingTransactionFilter"
_FILTER_USE = "eth_getFilterChanges eth_getFilterLogs eth_uninstallFilter"
_UNSAFE = f"""
    eth_sendTransaction eth_sendRawTransaction eth_sendRawTransactionSync eth_sendRawTransactionConditional
    eth_sendBundle eth_sendPrivateTransaction eth_sendUserOperation eth_submitWork eth_submitHashrate eth_sign
    eth_signTransaction eth_signTypedData eth_signTypedData_v3 eth_signTypedData_v4 eth_resend eth_cancelBundle
    eth_subscribe eth_unsubscribe {_FILTER_CREATION} eth_getFilterChanges eth_uninstallFilter
    evm_mine evm_increaseTime evm_snapshot evm_revert
"""

FILTER_CREATION = frozenset(_FILTER_CREATION.split())
"""Methods whose result is the id of a filter that lives in the node that answered."""

FILTER_USE = frozenset(_FILTER_USE.split())
"""Methods whose first parameter is such an id."""

KNOWN: dict[str, MethodClass] = {
    **dict.fromkeys(_FAST.split(), MethodClass.FAST),
    **dict.fromkeys(_UNSAFE.split(), MethodClass.UNSAFE),
    "eth_getFilterLogs": MethodClass.SLOW,
}
"""The methods whose class is not that of their namespace. Looked up once per request."""

_UNSAFE_NAMESPACES = ("clique_", "anvil_", "hardhat_", "wallet_", "account_")

_NEVER_ALLOWED = "engine_"
# In lower case, and so compared: nodes differ in whether the case of a name counts.
_REFUSED = (
    _NEVER_ALLOWED,
    "admin_",
    "miner_",
    "personal_",
    "perm_",  # Besu: who may connect, and send
    # geth, Erigon, Reth: profiles into files, the garbage collector, the database, the head
    *("debug_start", "debug_stop", "debug_set", "debug_write", "debug_standardtrace", "debug_blockprofile"),
    *("debug_cpuprofile", "debug_gotrace", "debug_memprofile", "debug_mutexprofile", "debug_stacks", "debug_verbosity"),
    *("debug_vmodule", "debug_backtraceat", "debug_freeosmemory", "debug_chaindbcompact"),
    # Nethermind, Besu: the head, receipts, the world state
    *("debug_deletechainslice", "debug_resethead", "debug_insertreceipts", "debug_migratereceipts", "debug_resync"),
    *("parity_set", "parity_clear"),
    # votes of validators
    *("clique_propose", "clique_discard", "ibft_propose", "ibft_discard", "qbft_propose", "qbft_discard"),
)
"""How the names begin that are refused."""


def method_class(method: str) -> MethodClass:
    """The class of a method; ``SLOW`` for one that is unknown."""
    known = KNOWN.get(method)
    if known is not None:
        return known
    if method.lower().startswith(_REFUSED):
        return MethodClass.REFUSED
    if method.startswith(_UNSAFE_NAMESPACES):
        return MethodClass.UNSAFE
    return MethodClass.SLOW


class Allowed:
    """Which of the refused methods a network's clients may call all the same: by ``patterns``, ``*`` being anything."""

    __slots__ = ("_matches",)

    def __init__(self, patterns: Iterable[str]) -> None:
        self._matches = tuple(re.compile(fnmatch.translate(pattern)).match for pattern in patterns)

    def permits(self, method: str) -> bool:
        """Whether it may be called; the consensus client's methods never."""
        return not method.lower().startswith(_NEVER_ALLOWED) and any(match(method) for match in self._matches)


CLASS_NAMES = tuple(c.name.lower() for c in MethodClass)
"""Names of the classes by value, for labels."""

_FIRST_NAMES_BLOCK = """
    eth_getBlockByHash eth_getBlockByNumber eth_getBlockReceipts eth_getBlockTransactionCountByHash
    eth_getBlockTransactionCountByNumber eth_getHeaderByHash eth_getHeaderByNumber eth_getLogs
    eth_getRawTransactionByBlockHashAndIndex eth_getRawTransactionByBlockNumberAndIndex
    eth_getTransactionByBlockHashAndIndex eth_getTransactionByBlockNumberAndIndex eth_getUncleByBlockHashAndIndex
    eth_getUncleByBlockNumberAndIndex eth_getUncleCountByBlockHash eth_getUncleCountByBlockNumber
    debug_getRawBlock debug_getRawHeader debug_getRawReceipts debug_traceBlockByHash debug_traceBlockByNumber
    trace_block trace_filter trace_replayBlockTransactions
"""
_SECOND_NAMES_BLOCK = """
    eth_call eth_createAccessList eth_estimateGas eth_feeHistory eth_getBalance eth_getCode eth_getTransactionCount
    eth_simulateV1 debug_traceCall trace_callMany
"""
_THIRD_NAMES_BLOCK = "eth_getProof eth_getStorageAt trace_call"

BLOCK_PARAM: dict[str, int] = {
    method: position
    for position, methods in enumerate((_FIRST_NAMES_BLOCK, _SECOND_NAMES_BLOCK, _THIRD_NAMES_BLOCK))
    for method in methods.split()
}
"""The position of the parameter that names a block, by number, tag or hash, or a range of blocks."""

TAKES_RANGE = frozenset(("eth_getLogs", "trace_filter"))
"""Those of them whose parameter is an object with ``fromBlock`` and ``toBlock``."""
