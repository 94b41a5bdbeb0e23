"""An EVM node for the WebSocket benchmark: a process of its own, HTTP and WebSocket on one port, told by lines.

    head           make the next block and push it; answered by {"number", "at", "bytes"}, "at" before the first push
    prepare N      make the logs of the next blocks, so that it need not be done while they are pushed
    subscribers    answered by their number

It listens on several loopback addresses, which are as many nodes. It ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from typing import Any

import orjson
import uvloop
from ws_chain import CHAIN_ID, Chain
from ws_wire import CLOSE, END_OF_HEAD, PING, PONG, TEXT, Frames, answer_head, frame

SMALL = b'"0x1234567"'
"""The result of what has no other."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)", re.IGNORECASE)


class Node:
    """What the connections share."""

    def __init__(self, shape: str) -> None:
        self.chain = Chain(shape)
        self.subscribers: dict[str, Connection] = {}
        self._made = 0

    def answer(self, call: dict[str, Any], connection: Connection | None) -> bytes:
        """The answer to one call."""
        result = self._result(call["method"], call.get("params") or [], connection)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(call["id"]), result)

    def _result(self, method: str, params: list[Any], connection: Connection | None) -> bytes:
        match method:
            case "eth_getLogs":
                return self.chain.logs(params[0]["blockHash"])
            case "eth_getBlockByNumber":
                number = self.chain.head if params[0] == "latest" else int(params[0], 16)
                return _whole(self.chain.block(number))
            case "eth_getBlockByHash":
                return _whole(self.chain.block_of(params[0]))
            case "eth_blockNumber":
                return b'"0x%x"' % self.chain.head
            case "eth_chainId":
                return b'"%b"' % CHAIN_ID.encode()
            case "eth_syncing":
                return b"false"
            case "eth_subscribe" if connection is not None:
                self._made += 1
                key = f"0x{self._made:032x}"
                self.subscribers[key] = connection
                connection.subscriptions.append(key)
                return orjson.dumps(key)
        return SMALL

    def obey(self, line: str) -> str:
        """Carry out a line of the standard input; the answer to it."""
        match line.split():
            case ["head"]:
                return json.dumps(self._push())
            case ["prepare", count]:
                self.chain.prepare(int(count))
        return str(len(self.subscribers))

    def _push(self) -> dict[str, Any]:
        head = self.chain.advance()
        result = orjson.dumps(head)
        before = b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"'
        at = time.monotonic()
        for key, connection in self.subscribers.items():
            connection.transport.write(frame(b'%b%b","result":%b}}' % (before, key.encode(), result)))
        return {"number": self.chain.head, "at": at, "bytes": len(result)}


def _whole(block: dict[str, Any] | None) -> bytes:
    return orjson.dumps(None if block is None else {**block, "transactions": [], "uncles": []})


class Connection(asyncio.Protocol):
    """One connection: HTTP until it is upgraded."""

    transport: Any

    def __init__(self, node: Node) -> None:
        self.subscriptions: list[str] = []
        self._node = node
        self._buffer = b""
        self._frames: Frames | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for key in self.subscriptions:
            del self._node.subscribers[key]

    def data_received(self, data: bytes) -> None:
        if self._frames is not None:
            self._read_frames(self._frames, data)
            return
        self._buffer += data
        while self._frames is None and self._read_request():
            pass

    def _read_frames(self, frames: Frames, data: bytes) -> None:
        for opcode, payload in frames.read(data):
            if opcode == TEXT:
                self.transport.write(frame(self._answer(payload, self)))
            elif opcode == PING:
                self.transport.write(frame(payload, PONG))
            elif opcode == CLOSE:
                self.transport.write(frame(payload, CLOSE))
                self.transport.close()

    def _read_request(self) -> bool:
        """Answer the request at the beginning; False when there is no whole one."""
        head, end, rest = self._buffer.partition(END_OF_HEAD)
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if not end or len(rest) < length:
            return False
        body, self._buffer = rest[:length], rest[length:]
        key = _KEY.search(head)
        if key:
            self._frames = Frames()
            self.transport.write(answer_head(key[1]))
            self._read_frames(self._frames, self._buffer)
        else:
            answer = self._answer(body, None)
            lines = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(lines % len(answer) + answer)
        return True

    def _answer(self, message: bytes, connection: Connection | None) -> bytes:
        asked = orjson.loads(message)
        if isinstance(asked, dict):
            return self._node.answer(asked, connection)
        return b"[%b]" % b",".join(self._node.answer(call, connection) for call in asked)


async def _serve(options: argparse.Namespace) -> None:
    node = Node(options.shape)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(node), options.addresses, options.port, backlog=4096)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := await orders.readline():
        print(node.obey(line.decode().strip()), flush=True)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/ws_node.py", description="An EVM node with WebSocket.")
    parser.add_argument("port", type=int)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--shape", default="", help="which logs blocks have; default: none")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
