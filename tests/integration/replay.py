"""A node that says what real ones said: recorded requests with their answers, as the bytes they were.

The recordings are the Ethereum execution API's own tests. They are not part of this project: they are read where they
lie, beside it, or where ``EVMLB_VECTORS`` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest

import orjson

from evmlb.demo.node import DemoNode
from evmlb.demo.subscriptions import Subscriptions

ROOT = Path(__file__).resolve().parent.parent.parent
_DEFAULT = ROOT.parent / "shared" / "vectors"
_INTERNAL_ERROR = b'{"code":-32603,"message":"internal error"}'
_ASKED_BY_POLLS = ("eth_blockNumber", "eth_chainId", "eth_syncing", "web3_clientVersion", "net_peerCount")
_OF_POLLS = {"web3_clientVersion": b'"replay/v1"', "net_peerCount": b'"0x10"'}


class Pair(NamedTuple):
    """A request and its answer, without their ids: what stands before the id, and behind it."""

    name: str
    method: str
    params: Any
    request: tuple[bytes, bytes]
    answer: tuple[bytes, bytes]

    def asked(self, number: int) -> bytes:
        """The request with this id."""
        return b"%d".join(self.request) % number

    def answered(self, call_id: Any) -> bytes:
        """The recorded answer with this id."""
        return orjson.dumps(call_id).join(self.answer)


def recorded() -> list[Pair]:
    """All pairs, in the order of their files. Raises :class:`SkipTest` where they are missing."""
    folder = Path(os.environ.get("EVMLB_VECTORS", _DEFAULT)) / "execution-apis"
    files = sorted(folder.glob("*/*.io"))
    if not files:
        raise SkipTest("part missing: the recorded execution-apis tests (EVMLB_VECTORS)")
    return [pair for file in files for pair in _pairs(file)]


def _pairs(file: Path) -> Iterator[Pair]:
    lines = file.read_bytes().splitlines()
    requests = [line[3:] for line in lines if line.startswith(b">> ")]
    answers = [line[3:] for line in lines if line.startswith(b"<< ")]
    for request, answer in zip(requests, answers, strict=True):
        call = orjson.loads(request)
        identity = b'"id":%d' % call["id"]
        yield Pair(
            f"{file.parent.name}/{file.stem}",
            call["method"],
            call.get("params"),
            _around(request, identity),
            _around(answer, identity),
        )


def _around(text: bytes, identity: bytes) -> tuple[bytes, bytes]:
    before, found, behind = text.partition(identity)
    assert found, text[:80]
    return before + b'"id":', behind


class Replay:
    """Stands in a demo node for its chain. ``fails_inside`` and the like are its faults, as a demo node sets them.

    ``error``: the member that answers those of the methods for which ``fails`` is true, but never what polls ask.
    """

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = {_key(pair.method, pair.params): pair for pair in pairs}
        self.error = b""
        self.fails: Callable[[str], bool] = lambda method: True
        self.fails_inside = False
        self.chain_id: int | None = None
        self.syncing_distance_blocks = 0
        self.claimed_head: int | None = None

    def forget(self) -> None:
        """There is nothing to forget."""

    def answer(self, body: bytes, subscriptions: Subscriptions | None) -> bytes:
        """The answer to a request or a batch."""
        asked = orjson.loads(body)
        if isinstance(asked, list):
            return b"[" + b",".join(map(self._answer, asked)) + b"]"
        return self._answer(asked)

    def _answer(self, call: dict[str, Any]) -> bytes:
        method, call_id = call["method"], call["id"]
        fails = method not in _ASKED_BY_POLLS and self.fails(method)
        error = _INTERNAL_ERROR if self.fails_inside else self.error if fails else b""
        if error:
            return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (orjson.dumps(call_id), error)
        said = self._belief(method)
        pair = self._pairs.get(_key(method, call.get("params")))
        if said is None and pair is not None:
            return pair.answered(call_id)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(call_id), said or b"null")

    def _belief(self, method: str) -> bytes | None:
        """What the node wrongly believes, or what polls ask and nobody recorded."""
        if method == "eth_chainId" and self.chain_id is not None:
            return b'"%#x"' % self.chain_id
        if method == "eth_blockNumber" and self.claimed_head is not None:
            return b'"%#x"' % self.claimed_head
        if method == "eth_syncing" and self.syncing_distance_blocks:
            return b'{"currentBlock":"0x0","highestBlock":"%#x"}' % self.syncing_distance_blocks
        return _OF_POLLS.get(method)


def _key(method: str, params: Any) -> bytes:
    return orjson.dumps([method, params or []])


def replaying(reactor: Any, chain: Any, name: str, pairs: list[Pair]) -> DemoNode:
    """A demo node, with all its faults, that answers what was recorded."""
    node = DemoNode(reactor, chain, name)
    node.rpc = Replay(pairs)  # type: ignore[assignment]
    return node
