"""JSON-RPC over the demo chain, in geth's words: bytes in, bytes out.

=====================================  ==================================================================
call                                   what is special about it
=====================================  ==================================================================
``eth_call`` to any address            a word that follows from address, input and block
``eth_call`` with ``0x42cbb15c``       the block's number as a word (Multicall3's ``getBlockNumber()``)
``eth_call`` with ``0x3408e470``       the chain id as a word (Multicall3's ``getChainId()``)
``eth_call`` with ``0xdeadbeef``       reverts: error 3, ``data`` holds ``Error("demo: this call always reverts")``
``eth_sendRawTransaction``             takes any bytes that begin like a transaction; the next block has them
=====================================  ==================================================================

The id of a request is echoed byte for byte. An answer ends with a newline and has its members in geth's order:
``jsonrpc``, ``id``, ``result``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import orjson

from evmlb.demo.chain import ChainView, DemoChain
from evmlb.demo.methods import METHODS, Context, Filters, RpcError
from evmlb.demo.subscriptions import METHODS as SUBSCRIBING
from evmlb.demo.subscriptions import Subscriptions

PARSE_ERROR = RpcError(-32700, "parse error")
INVALID_REQUEST = RpcError(-32600, "invalid request")
EMPTY_BATCH = RpcError(-32600, "empty batch")
INTERNAL_ERROR = RpcError(-32603, "Internal error")


class _Call(msgspec.Struct):
    jsonrpc: Any = None
    id: msgspec.Raw = msgspec.Raw(b"")
    method: Any = None
    params: Any = msgspec.UNSET


_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_call = msgspec.json.Decoder(_Call).decode


class DemoRpc:
    """The JSON-RPC side of one node.

    ``view`` gives the chain as this node sees it at the moment of a call. Filters live here, so they are known to
    this node alone, until :meth:`forget`.
    """

    def __init__(self, view: Callable[[], ChainView], *, client: str = "evmlb-demo/v1.0.0", peers: int = 25) -> None:
        self._view = view
        self._filters = Filters(client)
        self.client = client
        self.peers = peers
        self.chain_id: int | None = None
        """The chain id to claim; ``None`` for the chain's own."""
        self.syncing_distance_blocks = 0
        """How many blocks the node says it has yet to catch up; 0: it is done."""
        self.claimed_head: int | None = None
        """The head that ``eth_blockNumber`` claims; ``None`` for the true one."""
        self.fails_inside = False
        """Whether every call ends in ``-32603``."""

    def forget(self) -> None:
        """Lose every filter, as a node does that was restarted."""
        self._filters.forget()

    def answer(self, body: bytes, subscriptions: Subscriptions | None = None) -> bytes:
        """The answer to a request's body; empty where nothing but notifications was asked.

        ``subscriptions``: those of the connection, where it has a way to push.
        """
        try:
            calls = _decode_batch(body) if body.lstrip()[:1] == b"[" else None
            if calls is None:
                answer = self._answer_one(body, subscriptions)
            else:
                answers = [a for a in (self._answer_one(call, subscriptions) for call in calls) if a]
                answer = b"[" + b",".join(answers) + b"]" if answers else b""
                if not calls:
                    answer = _failure(b"null", EMPTY_BATCH)
        except (msgspec.DecodeError, RecursionError):
            answer = _failure(b"null", PARSE_ERROR)
        return answer + b"\n" if answer else b""

    def _answer_one(self, raw: bytes | msgspec.Raw, subscriptions: Subscriptions | None) -> bytes:
        try:
            call = _decode_call(raw)
        except msgspec.ValidationError:
            return _failure(b"null", INVALID_REQUEST)
        request_id = bytes(call.id)
        if call.jsonrpc != "2.0" or not isinstance(call.method, str) or request_id[:1] in (b"{", b"["):
            return _failure(request_id or b"null", INVALID_REQUEST)
        answer = self._call(request_id, call.method, call.params, subscriptions)
        return answer if request_id else b""

    def _call(self, request_id: bytes, method: str, params: Any, subscriptions: Subscriptions | None) -> bytes:
        try:
            result = self._result(method, params, subscriptions)
        except RpcError as error:
            return _failure(request_id, error)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, orjson.dumps(result))

    def _result(self, method: str, params: Any, subscriptions: Subscriptions | None) -> Any:
        if self.fails_inside:
            raise INTERNAL_ERROR
        function = METHODS.get(method)
        arguments = [] if params is msgspec.UNSET or params is None else params
        if function is None and (subscriptions is None or method not in SUBSCRIBING):
            raise RpcError(-32601, f"the method {method} does not exist/is not available")
        if not isinstance(arguments, list):
            raise RpcError(-32602, "non-array args")
        if function is not None:
            return function(self._context(), arguments)
        return cast(Subscriptions, subscriptions).call(method, arguments, self._view())

    def _context(self) -> Context:
        view = self._view()
        return Context(
            view=view,
            filters=self._filters,
            client=self.client,
            peers=self.peers,
            chain_id=view.chain.chain_id if self.chain_id is None else self.chain_id,
            syncing_distance_blocks=self.syncing_distance_blocks,
            head_number=view.head.number if self.claimed_head is None else self.claimed_head,
        )


def rpc_of(chain: DemoChain) -> DemoRpc:
    """The JSON-RPC of a node that sees the whole chain at once."""
    return DemoRpc(chain.view)


def _failure(request_id: bytes, error: RpcError) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id, orjson.dumps(error.to_json()))
