"""Load from a real client: web3.py in threads, each with its own connections, every failure kept."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests
from web3 import HTTPProvider, Web3


class Load:
    """``clients`` threads that ask until :meth:`stop`; bounded by ``seconds`` whatever happens.

    ``answers`` counts good ones, ``failures`` has each bad one in words.
    """

    def __init__(self, url: str, *, clients: int = 8, seconds: float = 30.0) -> None:
        self.url = url
        self.answers = 0
        self.failures: list[str] = []
        self.longest_seconds = 0.0
        self._deadline = time.monotonic() + seconds
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait until every client has its last answer."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        web3 = Web3(HTTPProvider(self.url, request_kwargs={"timeout": 20}, exception_retry_configuration=None))
        address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        calls: tuple[Callable[[], Any], ...] = (
            lambda: web3.eth.get_balance(address),
            lambda: web3.eth.block_number,
            lambda: web3.eth.get_block("latest"),
            lambda: web3.eth.call({"to": address, "data": "0x"}),
        )
        while not self._stopping.is_set() and time.monotonic() < self._deadline:
            for call in calls:
                began = time.monotonic()
                try:
                    call()
                except Exception as error:  # whatever a client may see is what this counts
                    with self._lock:
                        self.failures.append(f"{type(error).__name__}: {error}")
                else:
                    with self._lock:
                        self.answers += 1
                        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)


def nodes_that_answer(url: str, count: int) -> Counter[str]:
    """Which node answered how many of ``count`` calls, by ``X-Evmlb-Node``."""
    nodes: Counter[str] = Counter()
    with requests.Session() as session:
        for number in range(count):
            call = {"jsonrpc": "2.0", "id": number, "method": "eth_blockNumber", "params": []}
            response = session.post(url, json=call, timeout=20)
            nodes[response.headers["X-Evmlb-Node"]] += 1
    return nodes
