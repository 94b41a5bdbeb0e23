"""A node and a client of plain sockets: for what a proper client or node would not do."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from dataclasses import dataclass


def result(value: bytes) -> bytes:
    """A good answer with this result to a call with id 1."""
    return b'{"jsonrpc":"2.0","id":1,"result":%b}' % value


@dataclass(frozen=True)
class Request:
    """What a node received."""

    target: str
    headers: dict[str, str]
    body: bytes


class RawNode:
    """A node in a thread that answers every call with ``answer``, after ``delay_seconds``.

    ``waiting`` counts the requests it has not answered yet. Only small calls that polls make are answered at once with
    0x10, which is head and chain id alike.
    """

    def __init__(
        self,
        *,
        answer: bytes = result(b'"0x10"'),
        delay_seconds: float = 0.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.delay_seconds = delay_seconds
        self.requests: list[Request] = []
        self.waiting = 0
        node = self

        class Page(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                node.serve(self, body)

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Page)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def serve(self, page: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        is_poll = any(
            method in body for method in (b"eth_blockNumber", b"eth_chainId", b"eth_syncing", b"net_peer", b"web3_")
        )
        answer = result(b'"0x10"') if is_poll else self.answer
        if not is_poll:
            self.requests.append(Request(page.path, {k.lower(): v for k, v in page.headers.items()}, body))
            self.waiting += 1
            time.sleep(self.delay_seconds)
            self.waiting -= 1
        page.send_response(200)
        page.send_header("Content-Type", "application/json")
        page.send_header("Content-Length", str(len(answer)))
        page.end_headers()
        page.wfile.write(answer)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


def cut_call(path: str, body: bytes) -> bytes:
    """A POST as bytes, to be cut anywhere."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_answer(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer with a Content-Length."""
    client.settimeout(20)
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError(f"the answer ended in its head: {data!r}")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    pieces, left = [body], int(lines[b"content-length"]) - len(body)
    while left > 0:
        piece = client.recv(1 << 20)
        if not piece:
            raise ConnectionError("the answer ended in its body")
        pieces.append(piece)
        left -= len(piece)
    return int(head.split(b" ")[1]), b"".join(pieces)
