"""The HTTP side: requests with limits, and no word about ourselves in their answers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

MAX_BODY_BYTES = 4096
"""Nothing here reads a body; a small one is let pass."""
IDLE_SECONDS = 30.0
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


class AdminSite(Site):
    """The site of the admin port. ``clock`` is what times idle connections out."""

    displayTracebacks = False
    noisy = False  # no log line with our address in memory when it starts and stops

    def __init__(self, root: IResource, clock: Any = None) -> None:
        settings = {} if clock is None else {"reactor": clock}
        super().__init__(
            root, requestFactory=AdminRequest, parsePOSTFormSubmission=False, timeout=IDLE_SECONDS, **settings
        )

    def log(self, request: http.Request) -> None:
        """Requests to the admin port are not logged: a scrape every few seconds says nothing."""
