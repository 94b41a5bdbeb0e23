"""A request that does not come whole in one piece, put together without I/O.

Bytes go in by :meth:`RequestReader.feed`; :meth:`RequestReader.read` gives what they amount to so far: a whole request,
a refusal of one that cannot be read on, or the need for more. The reader stands between two requests or in one::

    between two --first byte--> in a head --blank line--> in a body --its end--> between two

Between two, empty lines are skipped. The time that a request may take counts from its first byte, so the state "in a
request" and the clock are one value, ``begun_at``. A request is read only when asked for: what lies behind it stays as
it came until its own turn, and the caller sees by ``ahead`` how much that is. Which rule wins:

* a head is refused by its size before its form, and by its form before what it announces;
* a body is refused by its announced length before a byte of it is awaited, and a chunked one as soon as it outgrows
  the limit; only then is memory asked for. What is announced is never reserved: a client could claim everything
  without sending anything;
* what is made of very small chunks, or of next to nothing but punctuation, is refused as soon as that shows;
* leave to send a body (100) is wished for only if the body would be taken and none of it is there yet.

After a refusal nothing can be read on: where the next request would begin is not known, or is not believed.

A connection has a reader only while it needs one. The common request needs none, nor does an idle connection.
"""

from __future__ import annotations

import enum
import string
from collections.abc import Callable

from evmlb import errors
from evmlb.config.schema import LimitsConfig
from evmlb.errors import Refusal
from evmlb.policy.shares import Shares
from evmlb.wire.http1 import CHUNKED, END_OF_HEAD, BadMessage, ChunkedBody, RequestHead, read_request_head

ACCOUNTED_BYTES = 4096
"""Bodies beyond this size count against the memory for request bodies."""
MAX_MARKS = 3 * 1024 * 1024
"""So many bytes of a body may be other than ASCII letters and digits. A JSON parser passes over letters and digits at 3
GB/s, over brackets, commas and blanks at 0.3: this bounds how long it holds up everybody else. A body up to this size
passes in any case; of longer ones those are refused that were made to be slow, as calls are long by their hexadecimal
data. What came is counted as it comes."""
_LETTERS_AND_DIGITS = string.ascii_letters.encode() + string.digits.encode()


class Need(enum.Enum):
    """What a reader lacks when it has no whole request."""

    BYTES = "bytes"
    LEAVE = "leave"  # the same, and the client waits for a 100 before it sends them


def new_head(data: bytes, end: int, limit: int) -> RequestHead | None:
    """The head that ends there in data, for a request that may have come whole; None where it takes a reader's care."""
    if not 4 <= end <= limit:
        return None
    try:
        return read_request_head(data[:end])
    except BadMessage:
        return None  # the reader will read, and refuse, it again


class RequestReader:
    """What one connection keeps of requests that are not whole yet, or not due yet.

    ``memory`` for request bodies is shared by all clients; ``client_of`` says whose share a request's body counts in.
    """

    __slots__ = (
        "_accounted",
        "_body",
        "_chunks",
        "_client",
        "_client_of",
        "_counted",
        "_kept",
        "_left",
        "_limits",
        "_marks",
        "_memory",
        "begun_at",
        "head",
    )

    def __init__(self, limits: LimitsConfig, memory: Shares, client_of: Callable[[RequestHead], str]) -> None:
        self._limits = limits
        self._memory = memory
        self._client_of = client_of
        self._client = ""  # whose share the reserved bytes are of
        self._kept = b""  # not looked at yet, or of an unfinished head
        self._body: bytearray | None = None  # a bytearray, because a body may come in very many very small pieces
        self._left = 0  # bytes of the body that are still to come, or CHUNKED
        self._chunks: ChunkedBody | None = None
        self._accounted = 0  # reserved bytes
        self._marks = 0  # bytes that are neither letters nor digits, among the first so many that were counted
        self._counted = 0
        self.begun_at: float | None = None  # since when a request is half read; None between two
        self.head: RequestHead | None = None  # of the request begun last, once it could be read

    @property
    def ahead(self) -> int:
        """Bytes that are kept and not looked at yet."""
        return len(self._kept)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept, half read or reserved: then the reader is as good as a new one."""
        return not self._kept and self.begun_at is None and not self._accounted

    def feed(self, data: bytes) -> None:
        """Take more bytes. They are looked at by ``read``."""
        self._kept = self._kept + data if self._kept else data

    def read(self, now: float) -> tuple[RequestHead, bytes] | Refusal | Need:
        """The next whole request, with its body; or why there is none.

        Call again after a request: the next one may be there. After a refusal ``head`` is that of the refused request,
        None if it had no readable one; call ``drop`` then, and never ``read`` again.
        """
        if not self._kept:
            return Need.BYTES
        try:
            if self._body is None or self.head is None:
                return self._read_head(now)
            return self._read_body(self.head, self._body)
        except BadMessage as error:
            return Refusal(error.status, errors.INVALID_REQUEST.code, error.reason)

    def take_rest(self) -> bytes:
        """Give away what is kept: it is no HTTP any more."""
        kept, self._kept = self._kept, b""
        return kept

    def drop(self) -> None:
        """Forget all bytes. A request that was half read stays so: its client may still be sending."""
        self._kept = b""
        self._body = self._chunks = None

    def release(self) -> None:
        """Give back the memory reserved for the last body: its request is answered, or its client is gone."""
        if self._accounted:
            self._memory.give_back(self._client, self._accounted)
            self._accounted = 0

    def _read_head(self, now: float) -> tuple[RequestHead, bytes] | Refusal | Need:
        if self.begun_at is None:
            self._kept = self._kept.lstrip(b"\r\n")  # an empty line before a request is ignored (RFC 9112, 2.2)
            if not self._kept:
                return Need.BYTES
            self.begun_at = now
            self.head = None
        end = self._kept.find(END_OF_HEAD) + 4
        is_whole = end > 3
        limit = self._limits.max_header_bytes
        if (end if is_whole else len(self._kept)) > limit:
            raise BadMessage(f"the head is longer than {limit} bytes", 431)
        if not is_whole:
            if not self._kept[:1].isalpha() or b"\n\n" in self._kept:
                raise BadMessage("malformed HTTP: no request begins, or ends, like this")  # TLS; bare line feeds
            return Need.BYTES
        self.head = head = read_request_head(self._kept[:end])
        self._kept = self._kept[end:]
        return self._begin_body(head)

    def _begin_body(self, head: RequestHead) -> tuple[RequestHead, bytes] | Refusal | Need:
        if head.upgrade and head.length:
            return errors.NO_WEBSOCKET  # where WebSocket begins could not be told
        if head.length > self._limits.max_body_bytes:
            return errors.TOO_LARGE
        if head.length == 0:
            return self._whole(head, b"")
        self._body = bytearray()
        self._left = head.length
        self._chunks = ChunkedBody(may_be_tiny=False) if head.length == CHUNKED else None
        self._marks = self._counted = 0
        if self._kept:
            return self._read_body(head, self._body)
        return Need.LEAVE if head.expects_continue else Need.BYTES

    def _read_body(self, head: RequestHead, body: bytearray) -> tuple[RequestHead, bytes] | Refusal | Need:
        is_whole = self._add(body)
        if len(body) > self._limits.max_body_bytes:
            return errors.TOO_LARGE
        if len(body) > ACCOUNTED_BYTES and not self._account(head, len(body) - self._accounted):
            return errors.OVER_MEMORY
        if len(body) > MAX_MARKS and self._count_marks(body) > MAX_MARKS:
            return errors.TOO_LARGE.saying(f"the body has more than {MAX_MARKS} bytes of punctuation and blanks")
        return self._whole(head, bytes(body)) if is_whole else Need.BYTES

    def _count_marks(self, body: bytearray) -> int:
        """Bytes of a body that are neither letters nor digits; only those that are new are looked at."""
        self._marks += len(body[self._counted :].translate(None, _LETTERS_AND_DIGITS))
        self._counted = len(body)
        return self._marks

    def _add(self, body: bytearray) -> bool:
        """Move what is kept into a body, as far as it belongs there; True when that was the end of it."""
        data, self._kept = self._kept, b""  # nothing is kept if the chunks turn out to be malformed
        if self._chunks is not None:
            pieces, self._kept = self._chunks.feed(data)
            for piece in pieces:
                body += piece
            return self._chunks.done
        self._kept = data[self._left :]
        body += data[: self._left]
        self._left = max(0, self._left - len(data))
        return not self._left

    def _account(self, head: RequestHead, size: int) -> bool:
        """Reserve memory for so much more of a body; False when there is none."""
        if not self._accounted:
            self._client = self._client_of(head)
        if not self._memory.take(self._client, size):
            return False
        self._accounted += size
        return True

    def _whole(self, head: RequestHead, body: bytes) -> tuple[RequestHead, bytes]:
        self.begun_at = None
        self._body = self._chunks = None
        return head, body
