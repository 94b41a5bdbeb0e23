"""A node's load, from the text of node-exporter."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from evmlb.upstream import exporter as exporter_module
from evmlb.upstream.exporter import Exporter, ExporterFailed, read_load
from tests.support import endpoint, run_property

PAGE = b"""# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.21
# TYPE node_load15 gauge
node_load15 0.5
# TYPE node_load5 gauge
node_load5 1.25e+00
node_load1_other 9
node_memory_MemFree_bytes 1.2e+09
"""


class ReadTests(SynchronousTestCase):
    def test_loads(self) -> None:
        """Each load is found among its neighbours."""
        self.assertEqual([read_load(PAGE, f"node_load{n}") for n in (1, 5, 15)], [0.21, 1.25, 0.5])

    def test_labels_and_time(self) -> None:
        """Labels and a time-stamp behind the value do not matter."""
        self.assertEqual(read_load(b'node_load1{job="x y"} 2 1700000000\n', "node_load1"), 2.0)

    def test_without(self) -> None:
        """A page without the load, or with one that is no number of use, is a failure."""
        for page in (b"", b"<html>", PAGE.replace(b"node_load1 0.21", b""), b"\xff", b"node_load1"):
            self.assertRaises(ExporterFailed, read_load, page, "node_load1")
        for value in (b"NaN", b"-1", b"+Inf", b"x", b""):
            self.assertRaises(ExporterFailed, read_load, b"node_load1 " + value, "node_load1")

    def test_anything(self) -> None:
        """Whatever the page, there is a load or our own failure."""

        @given(st.one_of(st.binary(), st.binary().map(lambda rest: b"node_load1" + rest), st.text().map(str.encode)))
        def check(page: bytes) -> None:
            with contextlib.suppress(ExporterFailed):
                self.assertGreaterEqual(read_load(page, "node_load1"), 0.0)

        run_property(check)


class Page(Resource):
    """What the exporter's server answers; ``hangs`` after the first bytes of the body."""

    isLeaf = True

    def __init__(self, body: bytes = PAGE, code: int = 200, *, hangs: bool = False) -> None:
        super().__init__()
        self.body, self.code, self.hangs = body, code, hangs
        self.asked: list[tuple[bytes, str | None]] = []
        self.ended: list[Any] = []

    def render_GET(self, request: Any) -> Any:
        self.asked.append((request.uri, request.getHeader("authorization")))
        request.setResponseCode(self.code)
        if self.hangs:
            request.write(self.body)
            request.notifyFinish().addBoth(self.ended.append)
            return NOT_DONE_YET
        return self.body


class ExporterTests(SynchronousTestCase):
    def fetch(self, page: Page, url: str = "http://10.0.0.1:9100", minutes: int = 1) -> Deferred[float]:
        self.agent = RequestTraversalAgent(page)
        exporter = Exporter(MemoryReactorClock(), endpoint(url), minutes, self.agent)
        fetching = exporter.fetch()
        self.agent.flush()
        return fetching

    def test_fetch(self) -> None:
        """The load of the configured period is fetched from /metrics."""
        page = Page()
        self.assertEqual(self.successResultOf(self.fetch(page, minutes=5)), 1.25)
        self.assertEqual(page.asked, [(b"/metrics", None)])

    def test_url(self) -> None:
        """Path, query and credentials of the URL are used."""
        page = Page()
        self.successResultOf(self.fetch(page, "http://a:b@[::1]:9100/x/y?k=v"))
        self.assertEqual(page.asked, [(b"/x/y?k=v", "Basic YTpi")])

    def test_bad_answers(self) -> None:
        """Another status, a redirect, or another page is a failure."""
        for page in (Page(code=500), Page(code=302), Page(code=204), Page(b"<html>")):
            self.failureResultOf(self.fetch(page), ExporterFailed)

    def test_hanging_body(self) -> None:
        """A body that never ends hangs until it is cancelled, which closes the connection."""
        page = Page(hangs=True)
        fetching = self.fetch(page)
        self.assertNoResult(fetching)
        fetching.cancel()
        self.agent.flush()
        self.failureResultOf(fetching, CancelledError)
        self.assertEqual(len(page.ended), 1)

    def test_endless_body(self) -> None:
        """One without end is closed when it is too large."""
        self.patch(exporter_module, "MAX_PAGE_BYTES", 1000)
        page = Page(b"# x\n" * 1000, hangs=True)
        self.failureResultOf(self.fetch(page))
        self.assertEqual(len(page.ended), 1)

    def test_close(self) -> None:
        """Closing with no connection is done at once."""
        exporter = Exporter(MemoryReactorClock(), endpoint("http://10.0.0.1:9100"), 1)
        self.successResultOf(exporter.close())
