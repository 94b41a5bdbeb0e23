"""The heads of answers to clients, and how a body is put behind them.

Everything before the length of the common answer (200, JSON, one attempt, connection stays) is made once per node and
kept; the uncommon is put together line by line.
"""

from __future__ import annotations

from collections.abc import Sequence

from evmlb.config.schema import Config
from evmlb.errors import Refusal
from evmlb.front.cors import Cors
from evmlb.interfaces import AnswerHead
from evmlb.memo import Memo
from evmlb.wire.http1 import RequestHead, status_line

JSON = b"application/json"
_MEMO_BYTES = 1024 * 1024
_MEMO_HEAD_BYTES = 1024


class Answers:
    """Builds answer heads as configured. ``cors`` says what pages may read."""

    def __init__(self, config: Config, cors: Cors) -> None:
        self._own_headers = config.answer_headers
        self._cors = cors
        self._error_status = config.error_status
        self._common: Memo[tuple[str, bytes], bytes] = Memo(_MEMO_BYTES, _MEMO_HEAD_BYTES)

    def common(self, node: str, content_type: bytes) -> bytes:
        """The head of a common answer up to the number of its length."""
        key = (node, content_type)
        head = self._common.get(key)
        if head is None:
            lines = status_line(200) + _content_type(content_type) + self._provenance(node, 1, False)
            head = lines + b"Content-Length: "
            self._common.keep(key, head, len(content_type) + len(head))
        return head

    def head(
        self,
        request: RequestHead,
        status: int,
        answer: AnswerHead,
        node: str,
        attempts: int,
        degraded: bool,
        keep_alive: bool,
        marks: bytes = b"",
    ) -> bytes:
        """Everything but the length and the blank line. ``marks``: lines that the client asked for."""
        lines = [status_line(status), _content_type(answer.content_type)]
        if answer.is_encoded:  # what is passed on as it is, compressed although nobody asked for that
            lines.append(b"Content-Encoding: %b\r\n" % answer.value(b"content-encoding"))
        retry_after = answer.value(b"retry-after")
        if retry_after:
            lines.append(b"Retry-After: %b\r\n" % retry_after)
        if request.origin:
            lines.append(self._cors.of_answer(request, answer))
        lines.append(self._provenance(node, attempts, degraded))
        lines += (connection(request, keep_alive), marks)
        return b"".join(lines)

    def refusal_status(self, refusal: Refusal) -> int:
        """The HTTP status that an answer of our own travels with."""
        return self._error_status or refusal.status

    def refusal(self, request: RequestHead | None, refusal: Refusal, attempts: int, keep_alive: bool) -> bytes:
        """The same for an answer of our own; without a request when it could not be read."""
        lines = [status_line(self.refusal_status(refusal)), _content_type(JSON), refusal.lines]
        if refusal.retry_after_seconds is not None:
            lines.append(b"Retry-After: %d\r\n" % refusal.retry_after_seconds)
        if request is not None and request.origin:
            lines.append(self._cors.of_refusal(request))
        if attempts and self._own_headers:
            lines.append(b"X-Evmlb-Attempts: %d\r\n" % attempts)
        lines.append(connection(request, keep_alive))
        return b"".join(lines)

    def plain(self, request: RequestHead | None, status: int, lines: bytes, keep_alive: bool) -> bytes:
        """The same for an answer with header lines of the caller's."""
        return b"".join((status_line(status), lines, connection(request, keep_alive)))

    def _provenance(self, node: str, attempts: int, degraded: bool) -> bytes:
        if not self._own_headers:
            return b""
        name = node.encode("ascii", "replace")
        degraded_line = b"X-Evmlb-Degraded: true\r\n" if degraded else b""
        return b"X-Evmlb-Node: %b\r\nX-Evmlb-Attempts: %d\r\n%b" % (name, attempts, degraded_line)


def _content_type(value: bytes) -> bytes:
    return b"Content-Type: %b\r\n" % value if value else b""


def connection(request: RequestHead | None, keep_alive: bool) -> bytes:
    """The Connection line, where the version's default is not what is meant."""
    if not keep_alive:
        return b"Connection: close\r\n"
    return b"" if request is None or request.http11 else b"Connection: keep-alive\r\n"


def framed(request: RequestHead | None, status: int, head: bytes, body: Sequence[bytes]) -> Sequence[bytes]:
    """A whole answer. 204 and 304 have no body by themselves, one to HEAD has only its length."""
    if status in (204, 304):
        return (head, b"\r\n")
    length = sum(map(len, body))
    end = b"Content-Length: %d\r\n\r\n" % length
    if request is not None and request.method == b"HEAD":
        # what a node would send to GET, only it knows: no length rather than a wrong one
        return (head, end if length else b"\r\n")
    return (head, end, *body)


def chunk(data: bytes) -> Sequence[bytes]:
    """One chunk of a chunked answer; it must not be empty, that would be the last one."""
    return (b"%x\r\n" % len(data), data, b"\r\n")
