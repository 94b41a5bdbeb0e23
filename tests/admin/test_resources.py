"""The admin port over real HTTP in memory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from evmlb.admin.readiness import Readiness
from evmlb.admin.resources import NetworkView, make_admin_site, readers_of
from evmlb.admin.site import ANSWER_SECONDS, IDLE_SECONDS, MAX_BODY_BYTES, MAX_CONNECTIONS
from evmlb.admin.views import SLICE_RECORDS, requests_page
from evmlb.config.schema import Config
from evmlb.metrics import Metrics, MetricsSource, Page
from evmlb.network import Network
from evmlb.node import Poll
from evmlb.stats import FrontStats, NetworkStats
from evmlb.trail import Ring, Trail
from tests.admin.support import TurningClock
from tests.support import network_config, node_config, nodes_of

KEY = "0123456789abcdef"
ROOT = Path(__file__).resolve().parent.parent.parent


class BrokenMetrics:
    """A metrics page that cannot be made."""

    def render(self, accept: str | None) -> Page:
        return Page("text/plain", self.slices())

    def slices(self) -> Iterator[bytes]:
        yield b"begun"
        raise RuntimeError("a secret of ours")


class AdminTests(SynchronousTestCase):
    host = "localhost"

    def setUp(self) -> None:
        self.clock = TurningClock()
        self.networks = [Network(network_config(*nodes_of("a b", "m", "f"), name=name), 0.0) for name in ("one", "two")]
        self.stats = {network.name: NetworkStats(4) for network in self.networks}
        self.views = {
            network.name: NetworkView(network, self.stats[network.name], tuple(Counter() for _ in network.nodes))
            for network in self.networks
        }
        sources = [MetricsSource(view.network, view.stats, view.poll_outcomes) for view in self.views.values()]
        self.readiness = Readiness(self.networks, 0.0)
        self.ring = Ring(100, self.clock.seconds)
        self.build(Metrics(sources, FrontStats(), "1.2.3", self.clock.seconds))

    def build(self, metrics: Any) -> None:
        now, readers = self.clock.seconds, readers_of(Config(networks=(), admin_hosts=("ops.example.com",)))
        self.site = make_admin_site(self.views, metrics, self.readiness, now, self.clock, self.ring, readers)
        self.agent = RequestTraversalAgent(self.site.resource)
        self.client = HTTPClient(self.agent)

    def poll(self, network: Network, index: int = 0) -> None:
        poll = Poll(number=100, latency_seconds=0.01, started_at=self.clock.seconds(), chain_id=1)
        network.observe_poll(network.nodes[index], poll, self.clock.seconds())

    def ask(self, path: str, method: str = "GET", **settings: Any) -> tuple[int, str, Any]:
        """Status, body and headers."""
        asking = self.client.request(method, f"http://{self.host}{path}", **settings)
        for _ in range(50):
            self.clock.turn()
            self.agent.flush()
        response = self.successResultOf(asking)
        return response.code, self.successResultOf(response.text()), response.headers

    # probes

    def test_alive(self) -> None:
        """Alive from the start, and still while it ends."""
        self.assertEqual(self.ask("/livez")[0], 200)
        self.readiness.draining = True
        self.assertEqual(self.ask("/livez")[0], 200)

    def test_ready(self) -> None:
        """503 with the reason, then 200, then 503 when the end begins."""
        self.assertEqual(self.ask("/readyz")[:2], (503, "first polls are under way: one, two\n"))
        self.clock.advance(3)
        self.assertEqual(self.ask("/readyz")[:2], (503, "no network can serve\n"))
        self.poll(self.networks[0])
        self.assertEqual(self.ask("/readyz")[:2], (200, "serving: one\n"))
        self.readiness.draining = True
        self.assertEqual(self.ask("/readyz")[:2], (503, "shutting down\n"))

    def test_ready_as_json(self) -> None:
        """Who accepts JSON gets it."""
        status, body, headers = self.ask("/readyz", headers={"Accept": "application/json"})
        self.assertEqual(status, 503)
        self.assertEqual(json.loads(body), {"ready": False, "reason": "first polls are under way: one, two"})
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/json"])

    def test_one_network_ready(self) -> None:
        """Each network has a probe of its own."""
        self.poll(self.networks[0])
        self.assertEqual(self.ask("/readyz/one")[:2], (200, "local nodes serve\n"))
        self.assertEqual(self.ask("/readyz/two")[0], 503)
        self.assertEqual(self.ask("/readyz/three")[:2], (404, "no such network\n"))

    # metrics

    def test_metrics(self) -> None:
        """The page parses, and has its length."""
        status, body, headers = self.ask("/metrics")
        self.assertEqual(status, 200)
        self.assertEqual(headers.getRawHeaders("content-type"), ["text/plain; version=0.0.4; charset=utf-8"])
        self.assertIn("loadbalancer_requests", [family.name for family in parse_text(body)])

    def test_metrics_as_openmetrics(self) -> None:
        """Who accepts OpenMetrics gets it."""
        _, body, headers = self.ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        self.assertTrue(headers.getRawHeaders("content-type")[0].startswith("application/openmetrics-text"))
        self.assertIn("loadbalancer_requests", [family.name for family in parse_openmetrics(body)])

    def test_metrics_fail(self) -> None:
        """A page that cannot be made is a 500 without details; the log has them."""
        self.build(BrokenMetrics())
        self.assertEqual(self.ask("/metrics")[:2], (500, "the page could not be made; the log says why\n"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    # nodes

    def test_nodes(self) -> None:
        """Every network and node, its state, its place in the order, and why."""
        self.poll(self.networks[0])
        self.stats["one"].record_request("c", 0.1)
        self.views["one"].poll_outcomes[0]["ok"] += 1
        self.clock.advance(2)
        status, body, headers = self.ask("/nodes")
        self.assertEqual((status, headers.getRawHeaders("content-type")), (200, ["application/json"]))
        networks = json.loads(body)["networks"]
        self.assertEqual(list(networks), ["one", "two"])
        one = networks["one"]
        self.assertEqual(one["chain_id"], 1)
        self.assertEqual((one["chainhead"], one["chainhead_age_seconds"]), (100, 2.0))
        self.assertEqual((one["tier"], one["degraded"], one["refusal"]), ("local", False, None))
        self.assertEqual((one["order"], one["requests"]), (["a"], 1))
        a, b, *_ = one["nodes"]
        self.assertEqual((a["name"], a["rank"], a["head"], a["polls"]), ("a", 0, 100, {"ok": 1}))
        self.assertEqual((b["rank"], b["reason"]), (None, "not polled yet"))
        self.assertEqual(networks["two"]["tier"], None)
        self.assertIn("No valid endpoint", networks["two"]["refusal"])

    def test_one_network(self) -> None:
        """The same of one network."""
        self.assertEqual(json.loads(self.ask("/nodes/one")[1])["order"], [])
        self.assertEqual(self.ask("/nodes/none")[:2], (404, "no such network\n"))

    def test_no_secrets(self) -> None:
        """Neither a URL nor what a node said shows a key."""
        node = node_config("a", url=f"https://user:hush@node.test/v3/{KEY}")
        network = Network(network_config(node, name="one"), 0.0)
        words = f"error: key https://x.test/{KEY} is bad\x1b[31m"
        for _ in range(2):
            network.observe_poll_failure(network.nodes[0], words, 0.0, final=True)
        self.views = {"one": NetworkView(network, NetworkStats(1), (Counter(),))}
        self.build(None)
        body = self.ask("/nodes")[1]
        self.assertIn("polls fail: error: key https://x.test/***", body)
        for secret in (KEY, "hush", "\\u001b"):
            self.assertNotIn(secret, body)

    def test_large_numbers(self) -> None:
        """A chain id beyond 64 bits is shown as text, not an error."""
        network = self.networks[0]
        poll = Poll(number=1, latency_seconds=0.01, started_at=0.0, chain_id=2**200)
        network.observe_poll(network.nodes[0], poll, 0.0)
        self.assertEqual(json.loads(self.ask("/nodes/one")[1])["chain_id"], str(2**200))

    def test_state_of_a_node(self) -> None:
        """Breaker, rate limit, unsupported methods and dialect, as they change."""
        network = self.networks[0]
        for index in range(2):
            self.poll(network, index)
        a, b = (node for node in json.loads(self.ask("/nodes/one")[1])["nodes"][:2])
        self.assertEqual((a["breaker"], a["next_trial_in_seconds"]), ("closed", None))
        self.assertEqual((a["rate_limited"], a["rate_limited_for_seconds"]), (False, None))
        self.assertEqual((a["unsupported_methods"], a["provider"]), ([], ""))
        now = self.clock.seconds()
        for _ in range(2):
            network.record_failure(network.nodes[0], "reset", now, proven=True)
        network.record_limited(network.nodes[1], 9.0, now)
        for method in ("trace_block", "debug_traceCall"):
            network.record_unsupported(network.nodes[1], method, now)
        network.observe_details(network.nodes[1], "Geth/v1.16.0", None, now)
        a, b = (node for node in json.loads(self.ask("/nodes/one")[1])["nodes"][:2])
        self.assertEqual((a["breaker"], a["ejection"]), ("open", "reset"))
        self.assertTrue(0 < a["next_trial_in_seconds"] <= 1.2)
        self.assertTrue(8.9 < b["rate_limited_for_seconds"] <= 9.0)
        self.assertEqual((b["rate_limited"], b["provider"]), (True, "geth"))
        self.assertEqual(b["unsupported_methods"], ["debug_traceCall", "trace_block"])

    def test_every_member_is_documented(self) -> None:
        """The reference has a row for each member of the pages: of networks, nodes, requests, candidates and steps."""
        page = (ROOT / "docs" / "reference" / "admin.md").read_text()
        rows = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
        documented = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
        self.keep()
        one = json.loads(self.ask("/nodes/one")[1])
        [record] = json.loads(self.ask("/requests/failures")[1])
        members = {*one, *one["nodes"][0], *record, *(name for step in record["steps"] for name in step)}
        self.assertEqual(members - documented, set())

    # requests

    def keep(self, number: int = 0, *, slow: bool = False, **changes: Any) -> None:
        """A request that was worth keeping."""
        trail = Trail()
        trail.candidates = self.networks[0].order.places[:2]
        trail.note(0.0, "asked", "a")
        trail.note(0.02, "garbage", "a", "not JSON")
        record = {
            "network": "one",
            "method": f"eth_m{number}",
            "outcome": "answered" if slow else "refused",
            "node": "a" if slow else None,
            "attempts": 1,
            "hedges": 0,
            "total_ms": 20.1,
            **trail.told(),
            **changes,
        }
        if slow:
            self.ring.keep_slow(1.0 + number, record)
        else:
            self.ring.keep_failure(record)

    def methods(self, path: str) -> list[str]:
        return [record["method"] for record in json.loads(self.ask(path)[1])]

    def test_no_requests(self) -> None:
        """Nothing was kept yet."""
        status, body, headers = self.ask("/requests")
        self.assertEqual((status, json.loads(body)), (200, {"failures": [], "slowest": []}))
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/json"])
        for kind in ("failures", "slowest"):
            self.assertEqual((self.ask(f"/requests/{kind}")[0], self.methods(f"/requests/{kind}")), (200, []))

    def test_requests(self) -> None:
        """The last failure first, the slowest request first; each list by itself as well."""
        for number in (1, 3, 2):
            self.keep(number)
            self.keep(number, slow=True)
        both = json.loads(self.ask("/requests")[1])
        self.assertEqual(list(both), ["failures", "slowest"])
        self.assertEqual([record["method"] for record in both["failures"]], ["eth_m2", "eth_m3", "eth_m1"])
        self.assertEqual([record["method"] for record in both["slowest"]], ["eth_m3", "eth_m2", "eth_m1"])
        self.assertEqual(self.methods("/requests/failures"), ["eth_m2", "eth_m3", "eth_m1"])
        self.assertEqual(self.methods("/requests/slowest/"), ["eth_m3", "eth_m2", "eth_m1"])

    def test_a_record(self) -> None:
        """What a request left: whom it went to, in what order, with what result, and how long ago."""
        self.keep()
        self.clock.advance(5)
        [record] = json.loads(self.ask("/requests/failures")[1])
        self.assertEqual(
            record,
            {
                "network": "one",
                "method": "eth_m0",
                "outcome": "refused",
                "node": None,
                "attempts": 1,
                "hedges": 0,
                "total_ms": 20.1,
                "candidates": [
                    {"node": "a", "rank": None, "reason": "not polled yet"},
                    {"node": "b", "rank": None, "reason": "not polled yet"},
                ],
                "steps": [
                    {"at_ms": 0.0, "what": "asked", "node": "a"},
                    {"at_ms": 20.0, "what": "garbage", "node": "a", "detail": "not JSON"},
                ],
                "seconds_ago": 5.0,
            },
        )

    def test_no_such_list(self) -> None:
        """404, and what there is."""
        for path in ("/requests/fastest", "/requests/failures/0"):
            self.assertEqual(self.ask(path)[:2], (404, "no such list: there are failures and slowest\n"))

    def test_hostile_records(self) -> None:
        """What clients and nodes said stays text on its line, shows no key, and is JSON whatever it is."""
        words = f'"}}]\r\n\x1b[2J\u202e\ud800 https://x.test/v3/{KEY}'
        step = {"at_ms": 0.0, "what": "garbage", "node": "a", "detail": words}
        self.keep(method=words, steps=[step])
        self.keep(method=words, slow=True)
        for path in ("/requests", "/requests/failures"):
            body = self.ask(path)[1]
            for bad in ("\r", "\x1b", "\u202e", "\\u001b", KEY):
                self.assertNotIn(bad, body)
            found = json.loads(body)
            [record] = found["failures"] if path == "/requests" else found
            self.assertIn('"}]\\r\\n\\x1b[2J\\u202e\\ud800 https://x.test/v3/***', record["method"])
            self.assertEqual(record["steps"][0]["detail"], record["method"])

    def test_many_requests(self) -> None:
        """However many are kept, they are written a few at a time."""
        for number in range(3 * SLICE_RECORDS + 1):
            self.keep(number)
        pieces = list(requests_page({"failures": self.ring.failures, "slowest": self.ring.slowest}))
        self.assertEqual(max(piece.count(b'"method"') for piece in pieces), SLICE_RECORDS)
        records = json.loads(b"".join(pieces))["failures"]
        self.assertEqual([record["method"] for record in records], [f"eth_m{n}" for n in reversed(range(31))])
        self.assertEqual(json.loads(self.ask("/requests")[1])["failures"], records)

    def test_requests_that_come_meanwhile(self) -> None:
        """The rest of a list stays what it was when the page began."""
        for number in range(SLICE_RECORDS + 1):
            self.keep(number)
        pages = requests_page({"failures": self.ring.failures})
        parts = [next(pages) for _ in range(3)]
        for number in range(200):
            self.keep(1000 + number)
        records = json.loads(b"".join([*parts, *pages]))["failures"]
        self.assertEqual([record["method"] for record in records], [f"eth_m{n}" for n in reversed(range(11))])

    # everything

    def test_index(self) -> None:
        """The root says what there is."""
        for path in ("", "/"):
            self.assertIn("/metrics", self.ask(path)[1])

    # readers

    def test_names(self) -> None:
        """Private pages are read under an address, localhost or a listed name; the others under any name."""
        for host, status in (
            ("localhost", 200),
            ("127.0.0.1:9101", 200),
            ("ops.example.com", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
        ):
            self.host = host
            for path in ("/nodes", "/nodes/one", "/requests", "/requests/slowest"):
                found, body, _ = self.ask(path)
                self.assertEqual(found, status, (host, path))
                self.assertEqual("admin_hosts" in body, status == 403)
            for path in ("/", "/metrics", "/livez"):
                self.assertEqual(self.ask(path)[0], 200)

    def test_clients(self) -> None:
        """Private pages are read from listed addresses; the others from any."""
        config = Config(networks=(), admin_clients=("10.0.0.0/8",))
        self.site = make_admin_site(
            self.views, BrokenMetrics(), self.readiness, self.clock.seconds, self.clock, self.ring, readers_of(config)
        )
        self.agent = RequestTraversalAgent(self.site.resource)
        self.client = HTTPClient(self.agent)
        for path in ("/nodes", "/requests", "/nodes/one"):
            status, body, _ = self.ask(path)
            self.assertEqual((status, "127.0.0.1 may not read this" in body), (403, True))
        self.assertEqual(self.ask("/livez")[0], 200)

    def test_unknown_pages(self) -> None:
        """404 in one line."""
        for path in ("/x", "/metrics/x", "/livez/x", "/x/y", "/readyz/../x", "/%00", "/requests/x"):
            self.assertEqual(self.ask(path)[0], 404, path)

    def test_methods(self) -> None:
        """GET and HEAD only, everywhere."""
        for path in ("/", "/metrics", "/livez", "/readyz", "/nodes", "/requests", "/requests/slowest", "/x"):
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
                status, _, headers = self.ask(path, method)
                self.assertEqual((status, headers.getRawHeaders("allow")), (405, ["GET, HEAD"]), (path, method))

    def test_head(self) -> None:
        """HEAD says what GET would, without the body."""
        for path in ("/", "/metrics", "/livez", "/nodes", "/requests", "/requests/failures"):
            status, body, _ = self.ask(path, "HEAD")
            self.assertEqual((status, body), (200, ""), path)


class _Endless(Resource):
    """A page whose answer never ends."""

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        request.write(b"x")
        return NOT_DONE_YET


class SiteTests(SynchronousTestCase):
    """What goes over the wire: limits, headers, connections."""

    def setUp(self) -> None:
        self.clock = TurningClock()
        self.steps = 0
        network = Network(network_config(name="one"), 0.0)
        views = {"one": NetworkView(network, NetworkStats(1), (Counter(),))}
        self.site = make_admin_site(views, self, Readiness([network], 0.0), self.clock.seconds, self.clock)
        self.connect()

    def render(self, accept: str | None) -> Page:
        """Be a metrics page of ten slices that counts them."""
        return Page("text/plain", self.slices())

    def slices(self) -> Iterator[bytes]:
        for _ in range(10):
            self.steps += 1
            yield b"x"

    def connect(self) -> None:
        address = IPv4Address("TCP", "127.0.0.1", 1)
        self.protocol: Any = self.site.buildProtocol(address)
        self.transport = StringTransport(address, address)
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes, turns: int = 20) -> bytes:
        self.protocol.dataReceived(data)
        self.clock.turn(turns)
        return self.transport.value()

    def test_headers(self) -> None:
        """Not a word about the server; nobody caches, nobody guesses types."""
        head = self.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").split(b"\r\n\r\n")[0].lower()
        self.assertTrue(head.startswith(b"http/1.1 200"))
        self.assertNotIn(b"server:", head)
        self.assertNotIn(b"twisted", head)
        for line in (b"cache-control: no-store", b"x-content-type-options: nosniff", b"content-length: 10"):
            self.assertIn(line, head)

    def test_head_has_the_length(self) -> None:
        """HEAD has the length of what GET would bring."""
        answer = self.send(b"HEAD /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b"content-length: 6", answer.lower())
        self.assertTrue(answer.endswith(b"\r\n\r\n"))

    def test_failures_are_not_shown(self) -> None:
        """When a page raises, the client sees neither the traceback nor who we are."""
        self.site.resource.getChild = None  # type: ignore[assignment]
        answer = self.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 500"))
        self.assertNotIn(b"Traceback", answer)
        self.assertNotIn(b"Twisted", answer)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_announced_body_too_large(self) -> None:
        """413, and the connection ends, before the body is read."""
        length = MAX_BODY_BYTES + 1
        answer = self.send(b"POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length)
        self.assertTrue(answer.startswith(b"HTTP/1.1 413"))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.send(b"x" * length), answer)

    def test_chunked_body_too_large(self) -> None:
        """The same for a body that does not say how long it is."""
        self.send(b"POST /metrics HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = b""
        for _ in range(10):
            answer = self.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        answer = self.send(b"0\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413"))
        self.assertEqual(answer.count(b"HTTP/1.1"), 1)
        self.assertTrue(self.transport.disconnecting)

    def test_small_body(self) -> None:
        """A small body is read and does not matter."""
        answer = self.send(b"GET /livez HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"))

    def test_idle_connection(self) -> None:
        """A connection on which nothing comes is closed."""
        self.send(b"GET /livez HTTP/1.1\r\nHo")
        self.clock.advance(IDLE_SECONDS + 1)
        self.assertTrue(self.transport.disconnecting)

    def test_drip(self) -> None:
        """A byte now and then does not hold a connection open, be it in a head or a body."""
        for beginning in (b"GET /livez HTTP/1.1\r\nHost: h", b"GET /livez HTTP/1.1\r\nContent-Length: 4000\r\n\r\n"):
            self.connect()
            self.send(beginning)
            for _ in range(int(IDLE_SECONDS) + 1):
                if not self.transport.disconnecting:
                    self.protocol.dataReceived(b"x")
                self.clock.advance(1)
            self.assertTrue(self.transport.disconnecting, beginning)

    def test_kept_connection(self) -> None:
        """After an answer the time begins anew."""
        for _ in range(3):
            self.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            self.clock.advance(IDLE_SECONDS - 1)
            self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.transport.disconnecting)

    def test_not_read(self) -> None:
        """A client that does not read its answer is cut off."""
        self.site.resource.getChild = lambda path, request: _Endless()  # type: ignore[assignment]
        self.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        self.clock.advance(ANSWER_SECONDS - 1)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)

    def test_connections(self) -> None:
        """One client gets half of the connections, another one has room, and what ends is free again."""

        def open_from(host: str) -> Any:
            return self.site.buildProtocol(IPv4Address("TCP", host, 1))

        mine = [open_from("192.0.2.1") for _ in range(MAX_CONNECTIONS)]
        count = sum(each is not None for each in mine)
        self.assertTrue(MAX_CONNECTIONS // 2 - 2 <= count <= MAX_CONNECTIONS // 2 + 1, count)
        self.assertIsNotNone(open_from("192.0.2.2"))
        mine[0].makeConnection(StringTransport())
        mine[0].connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(open_from("192.0.2.1"))
        self.assertIsNone(open_from("192.0.2.1"))

    def test_client_leaves(self) -> None:
        """When the client leaves, its page is not made any further."""
        self.send(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n", turns=3)
        self.assertEqual(self.steps, 3)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock.turn(20)
        self.assertEqual(self.steps, 3)
        self.assertEqual(self.transport.value(), b"")

    def test_pipelined(self) -> None:
        """Several requests on one connection are answered one after another."""
        request = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
        answer = self.send(request + request, turns=60)
        self.assertEqual(answer.count(b"HTTP/1.1 200"), 2)
        self.assertEqual(self.steps, 20)
