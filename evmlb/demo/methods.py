"""What each JSON-RPC method of the demo chain answers: a table of functions over what the node knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evmlb.chain import parse_quantity
from evmlb.demo.blocks import BASE_FEE_WEI, GAS_LIMIT, Block, Json, digest, word
from evmlb.demo.chain import ChainView, matching_logs

REVERT_SELECTOR = "0xdeadbeef"
"""An ``eth_call`` whose input begins so reverts."""

REVERT_REASON = "demo: this call always reverts"

_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_BYTES = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class RpcError(Exception):
    """A JSON-RPC error: its code, its message, and its data where it has any."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> Json:
        """The error as it stands in an answer."""
        error: Json = {"code": self.code, "message": self.message}
        return error if self.data is None else {**error, "data": self.data}


class Filters:
    """The filters of one node. An id follows from the node and its count, so no two nodes know the same one."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._count = 0
        self._kept: dict[str, Filter] = {}

    def add(self, new: Filter) -> str:
        """Keep a filter and return its id."""
        self._count += 1
        key = digest("filter", self._node, str(self._count))[:34]
        self._kept[key] = new
        return key

    def get(self, key: str) -> Filter:
        """The filter of this id; geth's "filter not found" otherwise."""
        if key not in self._kept:
            raise RpcError(-32000, "filter not found")
        return self._kept[key]

    def remove(self, key: str) -> bool:
        """Drop a filter; whether there was one."""
        return self._kept.pop(key, None) is not None

    def forget(self) -> None:
        """Drop all; ids are not used again."""
        self._kept.clear()


@dataclass(slots=True)
class Filter:
    """What a filter looks for (``criteria`` None: blocks, or pending transactions) and how far it has told."""

    last: Block
    criteria: Json | None = None
    told_pending: int | None = None

    def changes(self, view: ChainView) -> list[Any]:
        """What is new since the last call; logs of blocks that were replaced come first, marked ``removed``."""
        if self.told_pending is not None:
            told, self.told_pending = self.told_pending, len(view.chain.sent)
            return view.chain.sent[told:]
        left, came = view.changes_since(self.last)
        if came:
            self.last = view.head
        if self.criteria is None:
            return [block.hash for block in came]
        return matching_logs(left, self.criteria, removed=True) + matching_logs(came, self.criteria)


@dataclass(frozen=True, slots=True)
class Context:
    """What one node knows at the moment of one call."""

    view: ChainView
    filters: Filters
    client: str
    peers: int
    chain_id: int
    syncing_distance_blocks: int
    head_number: int


Method = Callable[[Context, list[Any]], Any]
"""A method: result from context and parameters; raises :class:`RpcError`."""


def _argument(params: list[Any], index: int) -> Any:
    if index >= len(params):
        raise RpcError(-32602, f"missing value for required argument {index}")
    return params[index]


def _text(params: list[Any], index: int, pattern: re.Pattern[str], kind: str) -> str:
    value = _argument(params, index)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise RpcError(-32602, f"invalid argument {index}: cannot unmarshal into a value of type {kind}")
    return value.lower()


def _object(params: list[Any], index: int) -> Json:
    value = _argument(params, index)
    if not isinstance(value, dict):
        raise RpcError(-32602, f"invalid argument {index}: json: cannot unmarshal into an object")
    return value


def _find_block(view: ChainView, where: Any, index: int) -> Block | None:
    """The block named by a number, a tag, or (EIP-1898) an object with ``blockNumber`` or ``blockHash``."""
    if isinstance(where, dict):
        where = where.get("blockHash", where.get("blockNumber"))
        if isinstance(where, str) and _HASH.fullmatch(where):
            return view.by_hash(where.lower())
    number = parse_quantity(where)
    if number is not None:
        return view.block(number)
    block = view.tagged(where) if isinstance(where, str) else None
    if block is None:
        raise RpcError(-32602, f"invalid argument {index}: hex string without 0x prefix")
    return block


def _state_block(context: Context, params: list[Any], index: int) -> Block:
    where = params[index] if index < len(params) else None
    block = _find_block(context.view, "latest" if where is None else where, index)
    if block is None:
        raise RpcError(-32000, "header not found")
    return block


def _block_number(context: Context, params: list[Any]) -> str:
    return hex(context.head_number)


def _syncing(context: Context, params: list[Any]) -> Any:
    if not context.syncing_distance_blocks:
        return False
    current = context.view.head.number
    highest = current + context.syncing_distance_blocks
    return {"startingBlock": "0x0", "currentBlock": hex(current), "highestBlock": hex(highest)}


def _block_by_number(context: Context, params: list[Any]) -> Json | None:
    block = _find_block(context.view, _argument(params, 0), 0)
    return None if block is None else block.to_json(_argument(params, 1) is True)


def _block_by_hash(context: Context, params: list[Any]) -> Json | None:
    block = context.view.by_hash(_text(params, 0, _HASH, "common.Hash"))
    return None if block is None else block.to_json(_argument(params, 1) is True)


def _block_receipts(context: Context, params: list[Any]) -> list[Json] | None:
    where = _argument(params, 0)
    block = _find_block(context.view, {"blockHash": where} if _is_hash(where) else where, 0)
    return None if block is None else [block.receipt(i) for i in range(len(block.transactions))]


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _balance(context: Context, params: list[Any]) -> str:
    address = _text(params, 0, _ADDRESS, "common.Address")
    return hex(_state_block(context, params, 1).balances.get(address, 0))


def _transaction_count(context: Context, params: list[Any]) -> str:
    address = _text(params, 0, _ADDRESS, "common.Address")
    return hex(_state_block(context, params, 1).nonces.get(address, 0))


def _code(context: Context, params: list[Any]) -> str:
    address = _text(params, 0, _ADDRESS, "common.Address")
    _state_block(context, params, 1)
    return "0x60806040" if address == context.view.chain.token else "0x"


def _transaction(context: Context, params: list[Any]) -> Json | None:
    wanted = _text(params, 0, _HASH, "common.Hash")
    block = context.view.block_with(wanted)
    if block is None:
        return next((t.to_json() for t in context.view.chain.pending if t.hash == wanted), None)
    index = _index(block, wanted)
    return block.transactions[index].to_json(block, index)


def _receipt(context: Context, params: list[Any]) -> Json | None:
    wanted = _text(params, 0, _HASH, "common.Hash")
    block = context.view.block_with(wanted)
    return None if block is None else block.receipt(_index(block, wanted))


def _index(block: Block, transaction_hash: str) -> int:
    return next(i for i, t in enumerate(block.transactions) if t.hash == transaction_hash)


def _call(context: Context, params: list[Any]) -> str:
    call = _object(params, 0)
    block = _state_block(context, params, 1)
    data = call.get("input", call.get("data", "0x"))
    if not isinstance(data, str) or not _BYTES.fullmatch(data):
        raise RpcError(-32602, "invalid argument 0: json: cannot unmarshal into a value of type hexutil.Bytes")
    if data.startswith(REVERT_SELECTOR):
        raise RpcError(3, f"execution reverted: {REVERT_REASON}", _revert_data(REVERT_REASON))
    if data.startswith("0x42cbb15c"):
        return "0x" + word(block.number)
    if data.startswith("0x3408e470"):
        return "0x" + word(context.chain_id)
    return digest("call", str(call.get("to")).lower(), data, block.hash)


def _revert_data(reason: str) -> str:
    text = reason.encode()
    return "0x08c379a0" + word(32) + word(len(text)) + text.hex().ljust((len(text) + 31) // 32 * 64, "0")


def _estimate_gas(context: Context, params: list[Any]) -> str:
    _call(context, [*params[:1], "latest"])
    return hex(21_000)


def _fee_history(context: Context, params: list[Any]) -> Json:
    wanted = _argument(params, 0)
    count = wanted if isinstance(wanted, int) else parse_quantity(wanted)
    newest = _state_block(context, params, 1)
    if count is None:
        raise RpcError(-32602, "invalid argument 0: not a block count")
    blocks = list(context.view.blocks(newest.number - min(count, 1024) + 1, newest.number))
    return {
        "oldestBlock": hex(blocks[0].number if blocks else 0),
        "baseFeePerGas": [hex(BASE_FEE_WEI)] * (len(blocks) + 1),
        "gasUsedRatio": [sum(t.gas_used for t in block.transactions) / GAS_LIMIT for block in blocks],
    }


def _send_raw(context: Context, params: list[Any]) -> str:
    raw = bytes.fromhex(_text(params, 0, _BYTES, "hexutil.Bytes")[2:])
    if not raw or not (raw[0] >= 0xC0 or 1 <= raw[0] <= 4):
        raise RpcError(-32000, "transaction type not supported" if raw else "EOF")
    chain = context.view.chain
    known = len(chain.sent)
    transaction = chain.send_raw(raw)
    if len(chain.sent) == known:
        mined = chain.is_mined(transaction.hash)
        raise RpcError(-32000, "nonce too low" if mined else "already known")
    return transaction.hash


def checked_criteria(params: list[Any]) -> Json:
    """A filter's object with ``address`` a list or None and each topic a list or None, in lower case."""
    criteria = _object(params, 0)
    return {**criteria, "address": _options(criteria.get("address")), "topics": _topics(criteria.get("topics"))}


def _topics(topics: Any) -> list[list[str] | None]:
    if topics is None:
        return []
    if not isinstance(topics, list):
        raise RpcError(-32602, "invalid argument 0: invalid topics")
    return [_options(topic) for topic in topics]


def _options(value: Any) -> list[str] | None:
    if value is None:
        return None
    options = value if isinstance(value, list) else [value]
    if not all(isinstance(o, str) and (_HASH.fullmatch(o) or _ADDRESS.fullmatch(o)) for o in options):
        raise RpcError(-32602, "invalid argument 0: invalid address or topic")
    return [o.lower() for o in options]


def _logs(context: Context, params: list[Any]) -> list[Json]:
    criteria = checked_criteria(params)
    view = context.view
    if "blockHash" in criteria:
        block = view.by_hash(str(criteria["blockHash"]).lower())
        if block is None:
            raise RpcError(-32000, "unknown block")
        return matching_logs([block], criteria)
    first, last = _edge(view, criteria.get("fromBlock")), _edge(view, criteria.get("toBlock"))
    if first > last:
        raise RpcError(-32602, "invalid block range params")
    return matching_logs(list(view.blocks(first, last)), criteria)


def _edge(view: ChainView, where: Any) -> int:
    number = parse_quantity(where)
    if number is not None:
        return number
    block = _find_block(view, "latest" if where is None else where, 0)
    return view.head.number if block is None else block.number


def _new_filter(context: Context, params: list[Any]) -> str:
    return context.filters.add(Filter(context.view.head, checked_criteria(params)))


def _new_block_filter(context: Context, params: list[Any]) -> str:
    return context.filters.add(Filter(context.view.head))


def _new_pending_filter(context: Context, params: list[Any]) -> str:
    return context.filters.add(Filter(context.view.head, told_pending=len(context.view.chain.sent)))


def _filter_changes(context: Context, params: list[Any]) -> list[Any]:
    return context.filters.get(str(_argument(params, 0))).changes(context.view)


def _filter_logs(context: Context, params: list[Any]) -> list[Json]:
    criteria = context.filters.get(str(_argument(params, 0))).criteria
    if criteria is None:
        raise RpcError(-32000, "filter not found")
    return _logs(context, [criteria])


def _uninstall(context: Context, params: list[Any]) -> bool:
    return context.filters.remove(str(_argument(params, 0)))


METHODS: dict[str, Method] = {
    "eth_accounts": lambda context, params: [],
    "eth_blockNumber": _block_number,
    "eth_call": _call,
    "eth_chainId": lambda context, params: hex(context.chain_id),
    "eth_estimateGas": _estimate_gas,
    "eth_feeHistory": _fee_history,
    "eth_gasPrice": lambda context, params: hex(BASE_FEE_WEI),
    "eth_getBalance": _balance,
    "eth_getBlockByHash": _block_by_hash,
    "eth_getBlockByNumber": _block_by_number,
    "eth_getBlockReceipts": _block_receipts,
    "eth_getCode": _code,
    "eth_getFilterChanges": _filter_changes,
    "eth_getFilterLogs": _filter_logs,
    "eth_getLogs": _logs,
    "eth_getTransactionByHash": _transaction,
    "eth_getTransactionCount": _transaction_count,
    "eth_getTransactionReceipt": _receipt,
    "eth_maxPriorityFeePerGas": lambda context, params: "0x0",
    "eth_newBlockFilter": _new_block_filter,
    "eth_newFilter": _new_filter,
    "eth_newPendingTransactionFilter": _new_pending_filter,
    "eth_sendRawTransaction": _send_raw,
    "eth_syncing": _syncing,
    "eth_uninstallFilter": _uninstall,
    "net_listening": lambda context, params: True,
    "net_peerCount": lambda context, params: hex(context.peers),
    "net_version": lambda context, params: str(context.chain_id),
    "web3_clientVersion": lambda context, params: context.client,
}
"""Every method that a demo node knows."""
