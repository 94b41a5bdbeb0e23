"""What a client's Accept-Encoding says of gzip (RFC 9110, 12.5.3): pure, and for any bytes an answer.

An answer may be compressed when gzip has a weight above 0 that is not below that of the plain answer:

* ``gzip`` and ``x-gzip`` are one coding (RFC 9110, 8.4.1.3), ``identity`` is the plain answer, and ``*`` stands for
  each of the two that is not named. Without a weight it is 1; plain without a word about it has none to compare;
* what is malformed (a weight of 2, another parameter than ``q``) counts as not said;
* a coding that is named twice has the smaller of the weights: who excludes it once means it.

That plain is excluded (``identity;q=0``) makes no difference where gzip is not to be had or not worth it: such a client
gets the answer plain, because no answer at all would help it less (RFC 9110, 12.5.3, leaves that to the server).
"""

from __future__ import annotations

import re

MAX_BYTES = 1024
"""A longer header is not read, and the answer is plain: real ones have 20 to 40 bytes, and Python walks over these."""

_CODING = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
_NAMES = {b"x-gzip": b"gzip"}


def accepts_gzip(value: bytes) -> bool:
    """Whether the answer may be compressed. ``value``: all the header's lines, joined by commas; empty when none."""
    if not value or len(value) > MAX_BYTES:
        return False
    weights = _weights(value)
    anything = weights.get(b"*", 0.0)
    gzip = weights.get(b"gzip", anything)
    return gzip > 0 and gzip >= weights.get(b"identity", anything)


def _weights(value: bytes) -> dict[bytes, float]:
    """The weight of each coding that is named."""
    weights: dict[bytes, float] = {}
    for item in value.split(b","):
        coding = _CODING.fullmatch(item)
        if coding is not None:
            name = coding[1].lower()
            name = _NAMES.get(name, name)
            weights[name] = min(weights.get(name, 1.0), float(coding[2] or 1))
    return weights
