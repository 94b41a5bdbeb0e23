"""What a client offers in Sec-WebSocket-Extensions, and the offer of it that is accepted. No I/O.

One extension is spoken here, permessage-deflate, where compression is allowed. An offer that cannot be accepted is
declined, which costs the client nothing: the next one is looked at, and without any the connection is opened
uncompressed. RFC 7692, 7.1, names what has to be declined; one thing more is declined here:

==============================================  ========================================================
an offer with                                   is
==============================================  ========================================================
a parameter that is not defined, or repeated    declined (7.1)
a value where none may be, or none, or a bad    declined (7.1)
``server_max_window_bits=8``                    declined: zlib cannot keep to a window of 256 bytes
``client_max_window_bits=8`` to ``15``          accepted: a hint (7.1.2.2), and any window is read here
==============================================  ========================================================

A header that is not made as RFC 6455, 9.1, says is no offer at all, and ends the handshake.
"""

from __future__ import annotations

import re

DEFLATE = b"permessage-deflate"

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|\"%b\"))?" % (_TOKEN, _TOKEN, _TOKEN)
_EXTENSION = re.compile(rb"[ \t]*(%b)((?:%b)*)[ \t]*" % (_TOKEN, _PARAMETER))
_PARAMETERS = re.compile(rb";[ \t]*(%b)(?:[ \t]*=[ \t]*\"?(%b)\"?)?" % (_TOKEN, _TOKEN))
_FLAGS = frozenset((b"server_no_context_takeover", b"client_no_context_takeover"))
_SERVER_BITS, _CLIENT_BITS = b"server_max_window_bits", b"client_max_window_bits"
_BITS = frozenset(b"%d" % bits for bits in range(8, 16))
_SERVERS_OWN_BITS = _BITS - {b"8"}


class Malformed(ValueError):
    """The header is not made as RFC 6455, 9.1, says."""


def accepted(header: bytes) -> bytes:
    """The first acceptable offer of permessage-deflate, as it is to be answered; empty when there is none.

    Raises :class:`Malformed`.
    """
    found = b""
    for text in header.split(b","):  # no comma can stand between quotes: what does is a token as well
        if not text.strip(b" \t"):
            continue  # RFC 9110, 5.6.1.2: empty elements of a list are passed over
        match = _EXTENSION.fullmatch(text)
        if match is None:
            raise Malformed
        if not found and match[1].lower() == DEFLATE:
            found = _accepted_offer(_PARAMETERS.findall(match[2]))
    return found


def _accepted_offer(parameters: list[tuple[bytes, bytes]]) -> bytes:
    """One offer, as it is to be answered; empty when it is declined."""
    names = [name for name, _ in parameters]
    if len(set(names)) < len(names) or not all(_is_good(name, value) for name, value in parameters):
        return b""
    words = [name + b"=" + value if name == _SERVER_BITS else name for name, value in parameters]
    return b"; ".join((DEFLATE, *words))


def _is_good(name: bytes, value: bytes) -> bool:
    if name == _SERVER_BITS:
        return value in _SERVERS_OWN_BITS
    if name == _CLIENT_BITS:
        return not value or value in _BITS
    return name in _FLAGS and not value
