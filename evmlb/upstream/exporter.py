"""A node's load, from the node-exporter beside it.

The page is some 100 kB, and parsing all of it would hold the loop for 26 ms: only the ``node_load`` lines are given to
prometheus_client's parser.
"""

from __future__ import annotations

import math
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from treq.client import HTTPClient
from twisted.internet import error, protocol
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent
from zope.interface import implementer

from evmlb.upstream.http import USER_AGENT
from evmlb.urls import Endpoint

MAX_PAGE_BYTES = 8 * 1024 * 1024


class ExporterFailed(Exception):
    """The page could not be had, or has no load."""


class Exporter:
    """Fetches ``node_load1``, ``5`` or ``15`` of one node. ``fetch`` has no time-out of its own: cancel it."""

    def __init__(self, reactor: Any, endpoint: Endpoint, load_period_minutes: int, agent: Any = None) -> None:
        """``agent``: what asks instead of the ``reactor``'s connections, for tests."""
        self._pool = HTTPConnectionPool(reactor)
        self._client = HTTPClient(_AgentForURL(agent or Agent(reactor, pool=self._pool), _url(endpoint)))
        self._headers: dict[bytes | str, bytes | str] = {"User-Agent": USER_AGENT, "Accept": "text/plain"}
        if endpoint.authorization is not None:
            self._headers["Authorization"] = endpoint.authorization
        self._name = f"node_load{load_period_minutes}"

    def fetch(self) -> Deferred[float]:
        """Fire with the load, or fail with :class:`ExporterFailed` or an error of Twisted's."""
        return Deferred.fromCoroutine(self._fetch())

    async def _fetch(self) -> float:
        response = await self._client.get(_ANY_URL, headers=self._headers, unbuffered=True, allow_redirects=False)
        page = await _collect(response)
        if response.code != 200:
            raise ExporterFailed(f"the exporter answered HTTP {response.code}")
        return read_load(page, self._name)

    def close(self) -> Deferred[Any]:
        """Close the connections that are kept."""
        closing: Deferred[Any] = self._pool.closeCachedConnections()
        return closing


def read_load(page: bytes, name: str) -> float:
    """The value of one ``node_load`` metric in an exporter's page; raises :class:`ExporterFailed` without one."""
    wanted = b"\n".join(line for line in page.split(b"\n") if line.startswith(name.encode()))
    try:
        families = list(text_string_to_metric_families(wanted.decode() + "\n"))
        values = [sample.value for family in families for sample in family.samples if sample.name == name]
    except ValueError as malformed:
        raise ExporterFailed("the exporter's page cannot be read") from malformed
    if not values or not math.isfinite(values[0]) or values[0] < 0:
        raise ExporterFailed(f"the exporter's page has no {name}")
    return float(values[0])


def _url(endpoint: Endpoint) -> str:
    path = endpoint.path if endpoint.path not in ("", "/") else "/metrics"
    query = f"?{endpoint.query}" if endpoint.query else ""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{endpoint.scheme}://{host}:{endpoint.port}{path}{query}"


_ANY_URL = "http://exporter.invalid/"


@implementer(IAgent)
class _AgentForURL:
    """Asks for one URL, whatever it is asked for: treq would not take one with an IPv6 address."""

    def __init__(self, agent: Any, url: str) -> None:
        self._agent = agent
        self._url = url.encode()

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        """See ``IAgent``."""
        return self._agent.request(method, self._url, headers, bodyProducer)


def _collect(response: Any) -> Deferred[bytes]:
    """The body, within a bound; cancelling it closes the connection."""
    collector = _Collector()
    response.original.deliverBody(collector)
    return collector.done


_DONE = Failure(error.ConnectionDone())


class _Collector(protocol.Protocol):
    """Collects a body of bounded size."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self._drop())

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_PAGE_BYTES:
            self._drop()

    def connectionLost(self, reason: Failure = _DONE) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)

    def _drop(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()
