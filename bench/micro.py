"""What the hot path's choices save, each beside what it was chosen over: ``python bench/micro.py``.

Best of several runs, in nanoseconds, on one core. The choice between the event loop's own transports and Twisted's
needs real connections: ``python bench/run.py --only transports``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from timeit import Timer

import msgspec
import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evmlb.jsonrpc import is_plain_result, parse_call, read_answer
from evmlb.stats import NetworkStats
from evmlb.wire.http1 import END_OF_HEAD, read_request_head, read_response_head, request_heads, response_heads

REPEATS = 7
REQUEST_HEAD = (
    b"POST /ethereum HTTP/1.1\r\nHost: rpc.example:8080\r\nUser-Agent: client/1.0\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: 116\r\n\r\n"
)
RESPONSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 47\r\nConnection: keep-alive\r\n\r\n"
)
CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance",'
    b'"params":["0x0123456789012345678901234567890123456789","latest"]}'
)
SEND_RAW = b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x%s"]}' % (b"ab" * 10_000)
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x1234567"}'

Work = Callable[[], object]


def main() -> None:
    """Print the table."""
    print(f"{'':58}{'ns':>9}{'times':>8}")
    for title, choices in _comparisons():
        print(title)
        first = 0.0
        for name, work in choices.items():
            nanoseconds = _time(work)
            first = first or nanoseconds
            print(f"  {name:56}{nanoseconds:9,.0f}{nanoseconds / first:8.1f}")


def _time(work: Work) -> float:
    timer = Timer(work)
    number, _ = timer.autorange()
    number = max(1, number // 10)
    return min(timer.repeat(REPEATS, number)) / number * 1e9


def _comparisons() -> list[tuple[str, dict[str, Work]]]:
    return [
        ("the head of a request", _heads(REQUEST_HEAD, read_request_head, request_heads)),
        ("the head of an answer", _heads(RESPONSE_HEAD, read_response_head, response_heads)),
        ("the envelope of a small call", _envelopes(CALL)),
        ("the envelope of a 20 kB transaction", _envelopes(SEND_RAW)),
        (
            "whether an answer is a plain result",
            {
                "is_plain_result, by its first and last bytes": lambda: is_plain_result(ANSWER, ANSWER, b"1"),
                "read_answer, the whole of it": lambda: read_answer(ANSWER, b"1"),
                "orjson.loads": lambda: orjson.loads(ANSWER),
            },
        ),
        ("counting a request", _counting()),
    ]


def _heads(head: bytes, read: Callable[[bytes], object], memo: dict[bytes, msgspec.Struct]) -> dict[str, Work]:
    known = memo.copy()
    data = head + CALL

    def parse() -> object:
        memo.clear()
        return read(head)

    def remember() -> object:
        return known.get(data[: data.find(END_OF_HEAD) + 4])  # new bytes each time, as from a socket: not hashed yet

    known[head] = read(head)  # type: ignore[assignment]
    return {"seen before: the memo": remember, "new: httptools": parse}


def _envelopes(body: bytes) -> dict[str, Work]:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    return {
        "parse_call: msgspec into a struct, parameters as bytes": lambda: parse_call(body),
        "msgspec into a dict, parameters as bytes": lambda: decode(body),
        "orjson.loads, everything": lambda: orjson.loads(body),
    }


def _counting() -> dict[str, Work]:
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests.", ["network", "node"], registry=registry)
    histogram = Histogram("seconds", "Duration.", ["network"], registry=registry)
    child, timed = counter.labels("ethereum", "a"), histogram.labels("ethereum")
    stats = NetworkStats(2)

    def add() -> None:
        stats.in_flight += 1

    return {
        "an attribute": add,
        "a prometheus_client counter, its child kept": child.inc,
        "a prometheus_client counter, its child looked up": lambda: counter.labels("ethereum", "a").inc(),
        "NetworkStats.record_request: histogram and client": lambda: stats.record_request("127.0.0.1", 0.002),
        "a prometheus_client histogram, its child kept": lambda: timed.observe(0.002),
    }


if __name__ == "__main__":
    main()
