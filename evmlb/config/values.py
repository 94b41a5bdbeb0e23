"""From the text of one value to what it means, and how a value may be shown.

Every reader takes the text and returns the value, or raises :class:`Unexpected`, whose ``expected`` begins with that
word and never repeats the text: who catches it decides whether the text may be repeated, by :func:`shown`.
"""

from __future__ import annotations

import difflib
import enum
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

from evmlb.urls import Endpoint, InvalidEndpoint, mask, mask_url, parse_endpoint

E = TypeVar("E", bound=enum.Enum)

YEAR_SECONDS = 365 * 24 * 3600.0

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
_INT = re.compile(r"[+-]?(0|[1-9][0-9]{0,20})|0x[0-9a-fA-F]{1,16}")
_UNITS = {"ns": "1e-9", "us": "1e-6", "µs": "1e-6", "μs": "1e-6", "ms": "1e-3", "s": "1", "m": "60", "h": "3600"}
_UNIT_SECONDS = {unit: Decimal(seconds) for unit, seconds in _UNITS.items()}  # decimal, so that 700ms is 0.7
_DURATION_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmg]i?b|b)?", re.IGNORECASE)
_UNIT_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SHOWABLE = re.compile(r"(?!.*(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16})[A-Za-z0-9_.:+,/ -]{0,32}")  # no run like a key
_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,99}")
_HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_METHOD_PATTERN = re.compile(r"[A-Za-z*][A-Za-z0-9_.*]{0,99}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]{1,100}")  # RFC 3986 pchar without percent-encoding
_NODE_NAME = re.compile(r"(?=\S)[ -.0-~]{1,100}(?<=\S)")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{1,8192}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._*-]+)(:[0-9]{1,5})?")
_LISTEN = re.compile(r"[A-Za-z][A-Za-z0-9]*:.+")

OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
    }
)
"""Request headers that are ours to set: they frame the message, decide how the answer reads, or say who asks."""


class Unexpected(ValueError):
    """A text is not what was expected. ``hint`` repeats a part of the text; ``expected`` never does."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(expected + hint)
        self.expected = expected


def shown(text: str) -> str:
    """The text as a fault may show it: quoted when it is short and harmless, otherwise masked."""
    if "://" in text:
        return mask_url(text)
    return f'"{text}"' if _SHOWABLE.fullmatch(text) else mask(text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` when something known is near, else nothing."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower()[:64], by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def boolean(text: str) -> bool:
    """``true``/``false``, and YAML 1.1's ``yes``, ``no``, ``on``, ``off``, in any case."""
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unexpected("expected true or false")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``, decimal or 0x; leading zeros, octal to some, are refused."""
    expected = f"expected a whole number from {low} to {high}"

    def read(text: str) -> int:
        if not _INT.fullmatch(text):
            raise Unexpected(expected)
        number = int(text, 16) if text.startswith("0x") else int(text)
        if not low <= number <= high:
            raise Unexpected(expected)
        return number

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """A number from ``low`` to ``high``, with or without decimals, no exponent."""
    expected = f"expected a number from {low} to {high}"

    def read(text: str) -> float:
        if not _NUMBER.fullmatch(text) or not low <= float(text) <= high:
            raise Unexpected(expected)
        return float(text)

    return read


def one_of(values: type[E], aliases: Mapping[str, E] | None = None) -> Callable[[str], E]:
    """One of an enumeration's values, in any case; ``aliases`` are further words that are understood."""
    by_word = {**(aliases or {}), **{str(member.value).lower(): member for member in values}}
    names = [str(member.value) for member in values]

    def read(text: str) -> E:
        member = by_word.get(text.lower())
        if member is None:
            raise Unexpected(f"expected one of {', '.join(names)}{did_you_mean(text, names)}")
        return member

    return read


def word_of(*words: str) -> Callable[[str], str]:
    """One of these words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise Unexpected(f"expected one of {', '.join(words)}{did_you_mean(text, words)}")
        return text.lower()

    return read


def parse_duration(value: object) -> float:
    """Seconds of a duration as Go writes it: ``250ms``, ``0.5s``, ``1h30m``, ``10µs``; ``0`` needs no unit.

    A bare number is refused, because half of its readers would take it for milliseconds; the message says what to
    write. So are negative ones and those beyond a year. Raises :class:`Unexpected`, a :class:`ValueError`.
    """
    text = str(value).strip()
    if re.fullmatch(r"[+-]?0+(\.0*)?", text):
        return 0.0
    if _NUMBER.fullmatch(text):
        raise Unexpected("expected a duration with its unit (ms, s, m, h)", f": {text}s or {text}ms")
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    parts = _DURATION_PART.findall(digits)
    if not parts or "".join(n + u for n, u in parts) != digits:
        raise Unexpected("expected a duration such as 250ms, 5s or 1h30m", _about_days(digits))
    seconds = float(sum(Decimal(number) * _UNIT_SECONDS[unit] for number, unit in parts))
    if sign == "-" and seconds:
        raise Unexpected("expected a duration that is not negative")
    if seconds > YEAR_SECONDS:
        raise Unexpected("expected a duration of at most a year (8760h)")
    return seconds


def _about_days(text: str) -> str:
    found = re.fullmatch(r"([0-9]{1,5})d(?:ays?)?", text)
    return f"; there is no unit for days: write {int(found[1]) * 24}h" if found else ""


def duration(low: float, low_text: str = "") -> Callable[[str], float]:
    """A duration of at least ``low`` seconds, which ``low_text`` writes."""

    def read(text: str) -> float:
        seconds = parse_duration(text)
        if seconds < low:
            raise Unexpected(f"expected a duration of at least {low_text}")
        return seconds

    return read


def parse_size(value: object) -> int:
    """Bytes of a size: ``32MiB``, ``64KiB`` (powers of 1024), ``1GB`` (powers of 1000), a plain number (bytes).

    Raises :class:`Unexpected`, a :class:`ValueError`.
    """
    text = str(value).strip()
    found = _SIZE.fullmatch(text)
    if not found:
        raise Unexpected("expected a size such as 64KiB, 32MiB or a number of bytes", _about_letters(text))
    return int(float(found[1]) * _UNIT_BYTES[(found[2] or "").lower()])


def _about_letters(text: str) -> str:
    found = re.fullmatch(r"([0-9]{1,12})([kmgKMG])i?", text)
    return f"; did you mean {found[1]}{found[2].upper()}iB?" if found else ""


def size(low: int, high: int = 2**40) -> Callable[[str], int]:
    """A size from ``low`` to ``high`` bytes."""

    def read(text: str) -> int:
        number = parse_size(text)
        if not low <= number <= high:
            raise Unexpected(f"expected a size from {low} to {high} bytes")
        return number

    return read


def load_period(text: str) -> tuple[int, bool]:
    """Minutes of the load average to use (1, 5 or 15), and whether the text says exactly that.

    The original's code takes 1, 5 and 15 as the minutes of ``node_load1``, ``node_load5`` and ``node_load15``; its
    README speaks of seconds. So every other number is read as seconds and goes to the nearest of the three averages,
    and a duration (``5m``) means itself.
    """
    if text in ("1", "5", "15"):
        return int(text), True
    try:
        seconds = float(text) if re.fullmatch("[0-9]{1,7}", text) else parse_duration(text)
    except Unexpected:
        raise Unexpected("expected 1, 5 or 15: the minutes of the load average to use") from None
    minutes = min((1, 5, 15), key=lambda m: abs(m * 60 - seconds))
    return minutes, minutes * 60 == seconds


def segment(text: str) -> str:
    """A network's name: one segment of a URL's path, matched exactly."""
    if not _SEGMENT.fullmatch(text) or text in (".", ".."):
        raise Unexpected(
            "expected a name that can stand in a URL's path: up to 100 letters, digits and any of -._~!$&'()*+,;=:@"
        )
    return text


def node_name(text: str) -> str:
    """A node's name. It is shown everywhere, so it is no URL: slashes are refused."""
    if not _NODE_NAME.fullmatch(text):
        raise Unexpected("expected up to 100 printable ASCII characters without a slash (names are shown everywhere)")
    return text


def rpc_endpoint(text: str) -> Endpoint:
    """A node's URL for requests: http or https; ws or wss for a node that has nothing else."""
    return _endpoint(text)


def ws_endpoint(text: str) -> Endpoint:
    """A node's URL for subscriptions: ws or wss."""
    endpoint = _endpoint(text)
    if endpoint.scheme not in ("ws", "wss"):
        raise Unexpected("expected a ws:// or wss:// URL; an HTTP URL goes into rpc_endpoint")
    return endpoint


def prometheus_endpoint(text: str) -> Endpoint:
    """The URL of a node-exporter's page."""
    endpoint = _endpoint(text)
    if endpoint.scheme in ("ws", "wss"):
        raise Unexpected("expected the http:// or https:// URL of a node-exporter, such as http://host:9100/metrics")
    return endpoint


def _endpoint(text: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except InvalidEndpoint as error:
        raise Unexpected(f"expected a URL: {error}") from None


def header_name(text: str, own: frozenset[str] = OWN_HEADERS) -> str:
    """The name of a header that may be set or passed on to a node; not one of ``own``."""
    if not _TOKEN.fullmatch(text):
        raise Unexpected("expected the name of a header: letters, digits and any of !#$%&'*+-.^_`|~")
    if text.lower() in own:
        raise Unexpected("expected another header: this one is set by evmlb itself")
    return text


def header_value(text: str) -> str:
    """The value of a header: printable ASCII on one line, without the blanks around it."""
    if not _HEADER_VALUE.fullmatch(text):
        raise Unexpected("expected the value of a header: printable ASCII on one line, at most 8192 characters")
    return text.strip(" \t")


def header_names_line(text: str) -> str:
    """A list of header names or methods, separated by commas, as CORS headers carry it."""
    if not all(_TOKEN.fullmatch(name.strip()) for name in text.split(",")):
        raise Unexpected("expected names separated by commas")
    return text.strip()


def origin(text: str) -> str:
    """An origin as browsers send it (``https://app.example``), ``*`` or ``null``."""
    if text not in ("*", "null") and not _ORIGIN.fullmatch(text):
        raise Unexpected("expected an origin such as https://app.example (no path, no slash at the end), or *")
    return text


def ip_range(text: str) -> str:
    """A range of addresses, ``10.0.0.0/8``, or a single one."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        near = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Unexpected("expected a range of addresses such as 10.0.0.0/8, or an address") from None
    raise Unexpected("expected a range whose address has no bits beyond its prefix", f"; did you mean {near}?")


def provider(text: str) -> str:
    """The short name of a provider or client, in lower case, as the rules for answers know it."""
    if not _PROVIDER.fullmatch(text):
        raise Unexpected("expected the short name of a provider or client, such as alchemy or geth")
    return text.lower()


def rpc_method(text: str) -> str:
    """The name of a JSON-RPC method."""
    if not _METHOD.fullmatch(text):
        raise Unexpected("expected the name of a JSON-RPC method, such as eth_call")
    return text


def method_pattern(text: str) -> str:
    """The name of a JSON-RPC method, or a pattern of names: ``admin_*``."""
    if not _METHOD_PATTERN.fullmatch(text):
        raise Unexpected("expected the name of a method such as admin_peers, or a pattern such as debug_*")
    if text.lower().startswith("engine_"):
        raise Unexpected("expected another method: engine_* is the consensus client's, and never served")
    return text


def host_name(text: str) -> str:
    """The name of a host as it stands in a URL, without a port."""
    if not _HOST_NAME.fullmatch(text):
        raise Unexpected("expected the name of a host such as rpc.example.com (no scheme, no port)")
    return text.lower()


def http_method(text: str) -> str:
    """A method of HTTP that asks something, in capitals."""
    if text.upper() not in _HTTP_METHODS:
        raise Unexpected("expected a method of HTTP, such as POST or GET")
    return text.upper()


def request_body(text: str) -> str:
    """The body of a request; any text that can be sent as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a variable of the environment may hold any bytes
        raise Unexpected("expected text that can be written in UTF-8") from None
    return text


def listen(text: str) -> str:
    """A place to listen at, as Twisted's endpoint strings write it: ``tcp:8080``, ``unix:/run/evmlb.sock``."""
    if not _LISTEN.fullmatch(text):
        hint = f"; did you mean tcp:{text}?" if re.fullmatch("[0-9]{1,5}", text) else ""
        raise Unexpected("expected a listening endpoint such as tcp:8080 or unix:/run/evmlb.sock", hint)
    return text


def file_path(text: str) -> str:
    """The path of a file; whether it can be read is looked at where files are read."""
    if "\0" in text:
        raise Unexpected("expected the path of a file")
    return text


def error_status(text: str) -> int:
    """The status with which own errors travel: only 200 can be chosen."""
    if text != "200":
        raise Unexpected("expected 200 (own errors travel with status 200), or no such key")
    return 200
