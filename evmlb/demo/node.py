"""One demo node on a port: JSON-RPC over HTTP/1.1 and WebSocket, and whatever is wrong with it at the moment.

Its own small protocol rather than ``twisted.web``: most of what a node can do wrong is below what a web server lets
one say. ``GET /metrics`` gives a node-exporter page on the same port, untouched by faults other than ``refuse``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import httptools
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTCP, IReactorTime, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from evmlb.demo import exporter, websocket
from evmlb.demo.blocks import digest
from evmlb.demo.chain import ChainView, DemoChain
from evmlb.demo.faults import HEALTHY, End, Fault, Kind, Step, play, response
from evmlb.demo.received import ReceivedRequest
from evmlb.demo.rpc import DemoRpc
from evmlb.demo.subscriptions import Subscriptions

RELISTEN_SECONDS = 0.5
"""How long to wait when the node's port is taken at the moment it wants it back."""

_KEPT_REQUESTS = 1000


class DemoNode:
    """A node over a chain, healthy until told otherwise.

    ``clock`` serves the faults that take time. :attr:`requests` holds the newest thousand JSON-RPC requests and
    :attr:`request_count` counts all of them. Use it on a port by :meth:`listen` and :meth:`stop`, in memory by
    :attr:`factory` (protocols) or :meth:`answer` (bodies).
    """

    def __init__(self, clock: IReactorTime, chain: DemoChain, name: str = "node", *, load: float = 0.5) -> None:
        self.clock = clock
        self.chain = chain
        self.name = name
        self.load = load
        self.fault = HEALTHY
        self.port = 0
        self.requests: deque[ReceivedRequest] = deque(maxlen=_KEPT_REQUESTS)
        self.request_count = 0
        self.connection_count = 0
        self.factory: Any = Factory.forProtocol(lambda: NodeProtocol(self))
        self.factory.noisy = False
        self.rpc = DemoRpc(self.view, client=f"evmlb-demo/{name}/v1.0.0")
        self.connections: set[NodeProtocol] = set()
        self.subscription_count = 0
        self._frozen_at = chain.head
        self._reactor: IReactorTCP | None = None
        self._listener: IListeningPort | None = None
        self._relisten: IDelayedCall | None = None

    @property
    def url(self) -> str:
        """Where the node is asked, once it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """The same over WebSocket."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def is_listening(self) -> bool:
        """Whether the node's port is open."""
        return self._listener is not None

    def listen(self, reactor: IReactorTCP, port: int = 0) -> int:
        """Listen on this port of the loopback interface (0: any free one) and return its number.

        Raises :class:`CannotListenError` when it is taken.
        """
        self._reactor = reactor
        self._listener = reactor.listenTCP(port, self.factory, interface="127.0.0.1")
        self.port = cast(Any, self._listener.getHost()).port
        return self.port

    def stop(self) -> Deferred[None]:
        """Close the port and every connection; fires when the port is closed. The node may listen again."""
        self._reactor = None
        return self._close()

    def become(self, fault: Fault) -> None:
        """Take on another fault from now on. Connections stay, except that ``refuse`` ends them.

        A node that refused has forgotten its filters, as one that was restarted.
        """
        self.fault = fault
        if fault.kind is Kind.FROZEN:
            self._frozen_at = self.chain.head
        amount = fault.amount
        self.rpc.fails_inside = fault.kind is Kind.INTERNAL_ERROR
        self.rpc.chain_id = self.chain.chain_id + amount if fault.kind is Kind.WRONG_CHAIN else None
        self.rpc.syncing_distance_blocks = amount if fault.kind is Kind.SYNCING else 0
        if fault.kind is Kind.REFUSE:
            self.rpc.forget()
            self._close()
        else:
            self._open_again()

    def answer(self, body: bytes, subscriptions: Subscriptions | None = None) -> bytes:
        """What the node answers to the body of a request, faults of belief included.

        ``subscriptions``: those of the connection, where it is a WebSocket.
        """
        lies = self.fault.kind is Kind.LYING_HEAD
        self.rpc.claimed_head = self.chain.head.number + self.fault.amount if lies else None
        return self.rpc.answer(body, subscriptions)

    def answer_message(self, message: bytes, subscriptions: Subscriptions) -> bytes:
        """The answer to a message that came over a WebSocket."""
        self.request_count += 1
        self.requests.append(ReceivedRequest("WEBSOCKET", body=message))
        return self.answer(message, subscriptions)

    def new_subscription_id(self) -> str:
        """An id that this node has not given before, and no other node ever gives."""
        self.subscription_count += 1
        return digest("subscription", self.name, str(self.subscription_count))[:34]

    def view(self) -> ChainView:
        """The chain as the node sees it now."""
        if self.fault.kind is Kind.FROZEN:
            return self.chain.view_at(self._frozen_at)
        return self.chain.view(self.fault.amount if self.fault.kind is Kind.LAG else 0)

    def serve(self, request: ReceivedRequest) -> Iterator[Step]:
        """The steps that answer an HTTP request."""
        if request.method == "GET" and request.target.partition("?")[0] == "/metrics":
            page = exporter.exporter_page(self.load, self.load, self.load)
            return _plain(response(page, content_type=exporter.CONTENT_TYPE, keep=request.keep), request.keep)
        if request.method != "POST":
            return _plain(response(b"", content_type="text/plain", keep=request.keep), request.keep)
        self.request_count += 1
        self.requests.append(request)
        return play(self.fault, self.answer(request.body), request.keep)

    def _close(self) -> Deferred[None]:
        if self._relisten is not None:
            self._relisten.cancel()
            self._relisten = None
        for connection in list(self.connections):
            connection.abort()
        listener, self._listener = self._listener, None
        return maybeDeferred(_stop_listening, listener)

    def _open_again(self) -> None:
        if self._reactor is None or self._listener is not None or self._relisten is not None:
            return
        try:
            self.listen(self._reactor, self.port)
        except CannotListenError:
            self._relisten = self.clock.callLater(RELISTEN_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._relisten = None
        self._open_again()


async def _stop_listening(listener: IListeningPort | None) -> None:
    if listener is not None and (stopped := listener.stopListening()) is not None:
        await stopped


def _plain(data: bytes, keep: bool) -> Iterator[Step]:
    yield data
    yield End.KEEP if keep else End.CLOSE


class NodeProtocol(Protocol):
    """One client connection: requests one after another, each served by the steps its node gives."""

    def __init__(self, node: DemoNode) -> None:
        self._node = node
        self._parser = httptools.HttpRequestParser(self)
        self._request = ReceivedRequest()
        self._waiting: deque[ReceivedRequest] = deque()
        self._serving = False
        self._closed = False
        self._timer: IDelayedCall | None = None
        self._upgraded: websocket.NodeWebSocket | None = None

    def connectionMade(self) -> None:
        """Count the connection."""
        self._node.connections.add(self)
        self._node.connection_count += 1
        set_no_delay: Callable[[bool], None] | None = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop whatever is being served."""
        self._node.connections.discard(self)
        self._stop()
        if self._upgraded is not None:
            self._upgraded.connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Parse; a request that is no HTTP is answered 400 and the connection closed."""
        if self._closed:
            return
        if self._upgraded is not None:
            self._upgraded.dataReceived(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse()
        if not self._serving:
            self._serve_next()

    def on_message_begin(self) -> None:
        """Begin a request (called by the parser, as what follows)."""
        self._request = ReceivedRequest()

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in pieces."""
        self._request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self._request.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Note the method, and whether the client goes on afterwards; tell one that asks first to send its body."""
        self._request.method = self._parser.get_method().decode("latin-1")
        self._request.keep = self._parser.should_keep_alive()
        if (self._request.header("expect") or "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._request.body += body

    def on_message_complete(self) -> None:
        """Queue the request; it is served outside the parser, which would swallow what goes wrong there."""
        self._waiting.append(self._request)

    def abort(self) -> None:
        """End the connection at once."""
        self._finish(End.RESET)

    def _upgrade(self, rest: bytes) -> None:
        """Go on as a WebSocket, or refuse it as the node's fault demands; there is nothing else to change to."""
        if not websocket.is_upgrade(self._request):
            self._refuse()
            return
        self._waiting.clear()
        steps = websocket.refusal(self._node)
        if steps is not None:
            self._run(steps)
            return
        self._upgraded = websocket.NodeWebSocket(self._node)
        self._upgraded.makeConnection(self.transport)
        self._upgraded.dataReceived(websocket.head_of(self._request) + rest)

    def _refuse(self) -> None:
        self._send(response(b"400 Bad Request\n", status=400, content_type="text/plain", keep=False))
        self._finish(End.CLOSE)

    def _serve_next(self) -> None:
        self._serving = bool(self._waiting) and not self._closed
        if self._serving:
            self._run(self._node.serve(self._waiting.popleft()))

    def _run(self, steps: Iterator[Step]) -> None:
        self._timer = None
        for step in steps:
            if isinstance(step, bytes):
                self._send(step)
            elif isinstance(step, End):
                self._finish(step)
                return
            else:
                self._timer = self._node.clock.callLater(step, self._run, steps)
                return

    def _send(self, data: bytes) -> None:
        if self.transport is not None and not self._closed:
            self.transport.write(data)

    def _finish(self, end: End) -> None:
        if end is End.KEEP:
            self._serve_next()
        elif end is not End.NEVER and not self._closed:
            self._stop()
            transport = cast(ITCPTransport, self.transport)
            transport.abortConnection() if end is End.RESET else transport.loseConnection()

    def _stop(self) -> None:
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
