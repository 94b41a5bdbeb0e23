"""The chain of the fault benchmark: every answer follows from the request and the clock, so that each can be checked.

Nodes and clients are processes of one machine and share its monotonic clock. The head grows by one block per second of
it, so everybody knows the head of any moment without asking. A result that depends on the head carries it in its last
32 bits: an answer of a node that is behind shows by how much.

What a client makes of a result:

=======  ==========================================================================================
good     what a node in step says
old      what a node says that is further behind than any in step could be, or a block it has not got
wrong    anything else: another request's answer, something made up, a block that is not there yet
=======  ==========================================================================================
"""

from __future__ import annotations

import random
import time
from hashlib import blake2b
from typing import Any

CHAIN_ID = 0x1E240
BLOCK_SECONDS = 1.0
BEHIND_BLOCKS = 100
IN_STEP_BLOCKS = 10
"""A head this far behind is old. Nodes in step differ by none, evmlb allows five."""
GOOD, OLD, WRONG = "good", "old", "wrong"
READS = ("eth_getBalance", "eth_getTransactionCount", "eth_getBlockByNumber", "eth_blockNumber", "eth_chainId")
CALL, LOGS, TRACE = "eth_call", "eth_getLogs", "debug_traceTransaction"
SEND, SEND_RAW = "eth_sendTransaction", "eth_sendRawTransaction"
USUAL_SECONDS = {CALL: 0.01, LOGS: 0.05, TRACE: 0.15}
"""What a node takes for these; for all others its latency alone."""
FIRST_ID = 1_000_000
"""The ids of clients begin here; those of evmlb's polls are below."""

_ORIGIN = 10_000_000
_HEAD_BITS = 32


def head_at(now: float) -> int:
    """The number of the newest block at a moment of ``time.monotonic``."""
    return _ORIGIN + int(now / BLOCK_SECONDS)


def random_call(rng: random.Random, now: float) -> tuple[str, list[Any]]:
    """A read with parameters of its own: method and parameters."""
    method = rng.choice(READS)
    if method in ("eth_getBalance", "eth_getTransactionCount"):
        return method, [f"0x{rng.getrandbits(160):040x}", "latest"]
    if method == "eth_getBlockByNumber":
        return method, [hex(head_at(now) - rng.randrange(3 * BEHIND_BLOCKS)), False]
    return method, []


def call(rng: random.Random) -> tuple[str, list[Any]]:
    """A call of a contract."""
    return CALL, [{"to": f"0x{rng.getrandbits(160):040x}", "data": f"0x{rng.getrandbits(288):072x}"}, "latest"]


def logs(rng: random.Random, now: float) -> tuple[str, list[Any]]:
    """The logs of 100 blocks below the head."""
    last = head_at(now) - 2 * BEHIND_BLOCKS - rng.randrange(BEHIND_BLOCKS)
    ends = {"fromBlock": hex(last - 99), "toBlock": hex(last)}
    return LOGS, [{**ends, "address": f"0x{rng.getrandbits(160):040x}"}]


def trace(rng: random.Random) -> tuple[str, list[Any]]:
    """The trace of a transaction."""
    return TRACE, [f"0x{rng.getrandbits(256):064x}", {"tracer": "callTracer"}]


def raw_sending(rng: random.Random) -> tuple[str, list[Any]]:
    """A signed transaction, as far as these nodes look at it."""
    return SEND_RAW, [f"0x02{rng.getrandbits(800):0200x}"]


def sending(marker: str) -> tuple[str, list[Any]]:
    """A call that must not be carried out twice; ``marker`` (hex) tells it from all others."""
    return SEND, [{"from": "0x" + "1" * 40, "to": "0x" + "2" * 40, "data": marker}]


def result_of(method: str, params: list[Any], head: int) -> Any:
    """What a node with this head answers, to calls of clients and of polls; None is a null."""
    if method == "eth_blockNumber":
        return hex(head)
    if method == "eth_chainId":
        return hex(CHAIN_ID)
    if method == "eth_getBlockByNumber":
        return _block(int(params[0], 16), head)
    if method == SEND:
        return f"0x{_digest(params[0]['data'], 32).hex()}"
    if method == SEND_RAW:
        return f"0x{_digest(params[0], 32).hex()}"
    if method == LOGS:
        return [{"address": params[0]["address"], "blockNumber": params[0]["toBlock"], "data": "0x" + "0" * 64}] * 20
    if method == TRACE:
        return {"type": "CALL", "input": params[0], "calls": [{"type": "STATICCALL", "output": params[0]}] * 20}
    if method in READS or method == CALL:
        return hex(_state(method, params) << _HEAD_BITS | head)
    return {"eth_syncing": False, "net_peerCount": "0x10", "net_version": str(CHAIN_ID)}.get(method, "0x0")


def judge(method: str, params: list[Any], result: Any, sent: float, ended: float) -> str:
    """What a result is: good, old or wrong. ``sent`` and ``ended`` are the client's times."""
    oldest, newest = head_at(sent) - IN_STEP_BLOCKS, head_at(ended)
    if method == "eth_getBlockByNumber" and result is None:
        return OLD
    if method not in ("eth_blockNumber", "eth_getBalance", "eth_getTransactionCount", CALL):
        return GOOD if _without_time(result) == _without_time(result_of(method, params, newest)) else WRONG
    try:
        shown = int(result, 16)
    except (TypeError, ValueError):
        return WRONG
    head = shown if method == "eth_blockNumber" else shown & (1 << _HEAD_BITS) - 1
    if hex(shown) != result or result != result_of(method, params, head) or head > newest:
        return WRONG
    return GOOD if head >= oldest else OLD


def _block(number: int, head: int) -> dict[str, Any] | None:
    """A block without transactions. Its time is by the wall clock, which whoever doubts a head looks at."""
    if number > head:
        return None
    return {
        "number": hex(number),
        "hash": f"0x{_digest(str(number), 32).hex()}",
        "parentHash": f"0x{_digest(str(number - 1), 32).hex()}",
        "timestamp": hex(int(time.time() - (head_at(time.monotonic()) - number) * BLOCK_SECONDS)),
        "transactions": [],
    }


def _without_time(result: Any) -> Any:
    """A block's time is cut to seconds by one process and by another a moment later: it may differ by one."""
    return {**result, "timestamp": None} if isinstance(result, dict) else result


def _state(method: str, params: list[Any]) -> int:
    return int.from_bytes(_digest(f"{method} {params}", 8))


def _digest(text: str, size: int) -> bytes:
    return blake2b(text.encode(), digest_size=size).digest()
