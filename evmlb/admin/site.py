"""The HTTP side: requests with limits, and no word about ourselves in their answers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from evmlb.policy.shares import Shares

MAX_BODY_BYTES = 4096
"""Nothing here reads a body; a small one is let pass."""
IDLE_SECONDS = 30.0
"""In so much time a request must be there whole, counted from the connection's beginning, or the answer before it."""
ANSWER_SECONDS = 60.0
"""So long a client may take to read an answer."""
MAX_CONNECTIONS = 100
"""One client has no more of them than is left for all others."""
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class AdminRequest(Request):
    """A request whose body is bounded and in memory, and whose answer does not name the server."""

    _body_left = MAX_BODY_BYTES
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that says it is too large before it is read."""
        self.content = BytesIO()
        if length is not None and length > MAX_BODY_BYTES:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Refuse a body that turns out to be too large."""
        self._body_left -= len(data)
        if self._body_left < 0:
            self._refuse()

    def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            self.channel.write(_TOO_LARGE)
            self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Nothing more is answered after a refusal."""
        if not self._refused:
            super().requestReceived(command, path, version)

    def render(self, resrc: IResource) -> None:
        """Answer."""
        self.responseHeaders.removeHeader(b"server")
        self.setHeader(b"cache-control", b"no-store")
        self.setHeader(b"x-content-type-options", b"nosniff")
        super().render(resrc)

    def processingFailed(self, reason: Any) -> Any:
        """Say that it went wrong, and not what; the log has it."""
        self.responseHeaders.removeHeader(b"server")
        return super().processingFailed(reason)


class AdminChannel(http.HTTPChannel):
    """A connection. Its time does not begin anew with each byte: nobody holds it by sending one now and then."""

    _answering: Any = None
    factory: Any  # the site

    def resetTimeout(self) -> None:
        """Called for each piece that comes in: nothing, see above."""

    def allContentReceived(self) -> None:
        """A request is there; its answer is made and read from now on."""
        self._answering = self.callLater(ANSWER_SECONDS, self.forceAbortClient)
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """It is answered."""
        self._stop_answering()
        super().requestDone(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It ended."""
        self._stop_answering()
        super().connectionLost(reason)
        self.factory.gone(self)

    def _stop_answering(self) -> None:
        answering, self._answering = self._answering, None
        if answering is not None and answering.active():
            answering.cancel()


class AdminSite(Site):
    """The site of the admin port. ``clock`` is what times connections out."""

    protocol: Any = AdminChannel
    displayTracebacks = False
    noisy = False  # no log line with our address in memory when it starts and stops

    def __init__(self, root: IResource, clock: Any = None) -> None:
        settings = {} if clock is None else {"reactor": clock}
        super().__init__(
            root, requestFactory=AdminRequest, parsePOSTFormSubmission=False, timeout=IDLE_SECONDS, **settings
        )
        self._shares = Shares(MAX_CONNECTIONS)
        self._clients: dict[Protocol, str] = {}

    def buildProtocol(self, addr: Any) -> Any:
        """A connection, if its client may have one more; None closes it."""
        client = getattr(addr, "host", "")
        if not self._shares.take(client):
            return None
        channel: Any = super().buildProtocol(addr)
        self._clients[channel] = client
        return channel

    def gone(self, channel: Protocol) -> None:
        """A connection ended."""
        client = self._clients.pop(channel, None)
        if client is not None:
            self._shares.give_back(client)

    def log(self, request: http.Request) -> None:
        """Requests to the admin port are not logged: a scrape every few seconds says nothing."""
