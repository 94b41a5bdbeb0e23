"""What a client gives to ``eth_subscribe``.

It takes one parameter more than geth's: an object ``{"resume": block}`` at the end, for ``newHeads`` and ``logs``.
``block`` is the hash or the number of the last block that the client saw; it is told first what it missed.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from evmlb.chain import parse_quantity
from evmlb.jsonrpc import Unreadable, read_value
from evmlb.policy.logfilter import LogFilter, read_filter

HEADS, LOGS, PENDING, SYNCING = "newHeads", "logs", "newPendingTransactions", "syncing"
MAX_TOPIC_BYTES = 16 * 1024
"""So long may the parameters of a topic be that is passed on."""

MAX_PARAMS_BYTES = 512 * 1024
"""So long may parameters be at all: a log filter with as many addresses and topics as it may have has 300 KB."""
_MOST_PARAMS = {HEADS: 1, LOGS: 2, SYNCING: 1}
"""The topic counts. As geth and Erigon have it; Nethermind and Besu take an object more for ``newHeads``, by which they
put whole transactions into the events. Ours are geth's headers, so to take such an object would promise what is not
kept."""

_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


class InvalidParams(ValueError):
    """What the client gave is no subscription; the text says why."""


def read_params(raw: msgspec.Raw | bytes) -> list[Any]:
    """The parameters, of which the first is the topic."""
    try:
        params = read_value(raw, max_bytes=MAX_PARAMS_BYTES) if raw else None
    except Unreadable:
        params = None
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise InvalidParams("eth_subscribe takes a list that begins with the name of a subscription")
    return params


def take_resume(params: list[Any]) -> str | int | None:
    """Take our own parameter from the end of those of ``newHeads`` or ``logs``: the block seen last."""
    last = params[-1]
    if not isinstance(last, dict) or "resume" not in last:
        return None
    if len(last) > 1:
        raise InvalidParams("resume is in an object of its own, the last parameter")
    params.pop()
    block = last["resume"]
    if isinstance(block, str):
        block = block.lower() if _HASH.fullmatch(block) else parse_quantity(block)
    if block is None or not isinstance(block, str | int) or isinstance(block, bool):
        raise InvalidParams("resume takes the hash or the number of a block")
    return block


def check_count(params: list[Any]) -> None:
    """Raise :class:`InvalidParams` where there are more parameters than the topic takes, but for our own."""
    most = _MOST_PARAMS.get(params[0], len(params))
    if len(params) > most:
        raise InvalidParams(f"too many arguments, want at most {most}")


def filter_of(params: list[Any]) -> LogFilter:
    """The filter of ``logs``. Raises :class:`evmlb.policy.logfilter.InvalidFilter`."""
    return read_filter(params[1] if len(params) > 1 else None)


def topic_key(params: list[Any]) -> bytes:
    """What subscriptions to a topic of nodes are told apart by: equal ones share what is asked."""
    if params[0] == PENDING and params[1:] not in ([], [True], [False]):
        raise InvalidParams(f"{PENDING} takes nothing, or whether transactions are wanted whole")
    check_count(params)
    key = orjson.dumps(params[:1] if params == [PENDING, False] else params, option=orjson.OPT_SORT_KEYS)
    if len(key) > MAX_TOPIC_BYTES:
        raise InvalidParams(f"the parameters have more than {MAX_TOPIC_BYTES} bytes")
    return key
