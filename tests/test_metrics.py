"""The metrics page, parsed back by prometheus_client's own parsers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Role
from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeOnWrongChain,
    NodeWentDown,
    OrderChanged,
)
from evmlb.methods import MethodClass
from evmlb.metrics import LoopLag, Metrics, MetricsSource, process
from evmlb.metrics.page import SLICE_SAMPLES
from evmlb.network import Network
from evmlb.node import Poll
from evmlb.stats import MAX_CLIENTS, FrontStats, NetworkStats
from tests.support import network_config, node_config, nodes_of

ROOT = Path(__file__).resolve().parent.parent
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class World:
    """One network with its numbers, and the page about it."""

    def __init__(self, *nodes: Any, name: str = "net", **settings: Any) -> None:
        self.now = 0.0
        self.network = Network(network_config(*(nodes or nodes_of("a b", "m", "f")), name=name, **settings), 0.0)
        self.stats = NetworkStats(len(self.network.nodes))
        self.polls: tuple[Counter[str], ...] = tuple(Counter() for _ in self.network.nodes)
        self.front = FrontStats()
        self.source = MetricsSource(self.network, self.stats, self.polls)
        self.metrics = Metrics([self.source], self.front, "1.2.3", lambda: self.now, loop="uvloop")

    def poll(self, index: int, number: int = 100, **facts: Any) -> None:
        poll = Poll(number=number, latency_seconds=0.02, started_at=self.now, chain_id=1, **facts)
        self.metrics.observe(self.network.observe_poll(self.network.nodes[index], poll, self.now))

    def fail_polls(self, index: int, times: int = 2) -> None:
        for _ in range(times):
            node = self.network.nodes[index]
            self.metrics.observe(self.network.observe_poll_failure(node, "refused", self.now, final=True))

    def text(self, accept: str | None = None) -> str:
        return b"".join(self.metrics.render(accept).slices).decode()

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of one name: label values in the order of label names."""
        return dict(self._values(name))

    def _values(self, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
        for family in parse_text(self.text()):
            for sample in family.samples:
                if sample.name == name:
                    yield tuple(value for _, value in sorted(sample.labels.items())), sample.value


def busy_world() -> World:
    """A world in which every family has samples."""
    world = World()
    for index in range(4):
        world.poll(index)
        world.network.observe_load(world.network.nodes[index], 0.5, 0.0)
        world.polls[index]["ok"] += 1
    world.stats.record_request("192.0.2.1", 0.3)
    world.stats.answered[0][MethodClass.FAST] += 1
    world.stats.failed[1, MethodClass.SLOW, "unreachable"] += 1
    world.stats.refusals[503] += 1
    world.front.bad_requests[400] += 1
    return world


class OriginalTests(SynchronousTestCase):
    """The nine families that dashboards of evm-loadbalancer read."""

    EXPECTED = {  # noqa: RUF012 (a table)
        "loadbalancer_node_latency_seconds": ("gauge", {"network", "rpc_endpoint"}),
        "loadbalancer_node_chainhead": ("gauge", {"network", "rpc_endpoint"}),
        "loadbalancer_node_blocks_behind": ("gauge", {"network", "rpc_endpoint"}),
        "loadbalancer_node_load": ("gauge", {"network", "rpc_endpoint"}),
        "loadbalancer_best_endpoint": ("gauge", {"network", "rpc_endpoint"}),
        "loadbalancer_node_errors_total": ("counter", {"network", "rpc_endpoint", "type"}),
        "loadbalancer_requests_total": ("counter", {"network"}),
        "loadbalancer_request_duration_seconds": ("histogram", {"network"}),
        "loadbalancer_requests_by_ip_total": ("counter", {"network", "client_ip"}),
    }

    def test_names_types_and_labels(self) -> None:
        """Exactly these nine, with these types and labels."""
        text = busy_world().text()
        types = dict(re.findall(r"^# TYPE (loadbalancer_\S+) (\S+)$", text, re.MULTILINE))
        self.assertEqual(types, {name: kind for name, (kind, _) in self.EXPECTED.items()})
        for line in re.findall(r"^loadbalancer_.*$", text, re.MULTILINE):
            name, labels = line.split("{")[0], set(re.findall(r'(\w+)="', line)) - {"le"}
            name = re.sub(r"(?<=duration_seconds)_(bucket|sum|count)$", "", name)
            self.assertEqual(labels, self.EXPECTED[name][1], line)

    def test_buckets(self) -> None:
        """The bounds are the original's, written as it wrote them, and the counts add up."""
        world = World()
        for seconds in (0.005, 0.006, 3.0, 30.0):
            world.stats.record_request("c", seconds)
        buckets = re.findall(r'duration_seconds_bucket\{le="([^"]+)",network="net"\} (\S+)', world.text())
        self.assertEqual(
            buckets,
            [
                *[("0.005", "1.0"), ("0.01", "2.0"), ("0.025", "2.0"), ("0.05", "2.0"), ("0.1", "2.0")],
                *[("0.25", "2.0"), ("0.5", "2.0"), ("1", "2.0"), ("2.5", "2.0"), ("5", "3.0"), ("10", "3.0")],
                ("+Inf", "4.0"),
            ],
        )
        self.assertEqual(world.values("loadbalancer_request_duration_seconds_count"), {("net",): 4.0})
        self.assertAlmostEqual(world.values("loadbalancer_request_duration_seconds_sum")["net",], 33.011)

    def test_gauges_wait_for_their_value(self) -> None:
        """A node that was never asked has no latency, head, lag or load."""
        world = World()
        for name in ("node_latency_seconds", "node_chainhead", "node_blocks_behind", "node_load"):
            self.assertEqual(world.values(f"loadbalancer_{name}"), {}, name)

    def test_gauges_of_a_node(self) -> None:
        """What a poll brought is shown under the node's endpoint."""
        world = World(*nodes_of("a b"))
        world.poll(0, 100)
        world.poll(1, 97)
        world.network.observe_load(world.network.nodes[0], 0.25, 0.0)
        a, b = ("net", "http://a.test:8545"), ("net", "http://b.test:8545")
        self.assertEqual(world.values("loadbalancer_node_latency_seconds"), {a: 0.02, b: 0.02})
        self.assertEqual(world.values("loadbalancer_node_chainhead"), {a: 100, b: 97})
        self.assertEqual(world.values("loadbalancer_node_blocks_behind"), {a: 0, b: 3})
        self.assertEqual(world.values("loadbalancer_node_load"), {a: 0.25})

    def test_a_dead_node_falls_behind(self) -> None:
        """The lag of a node that answers no more grows with the chain, so that an alert on it comes."""
        world = World(*nodes_of("a b"))
        world.poll(0, 100)
        world.poll(1, 100)
        world.fail_polls(1)
        for number in range(101, 121):
            world.now += 1
            world.poll(0, number)
        self.assertEqual(world.values("loadbalancer_node_blocks_behind")["net", "http://b.test:8545"], 20)
        self.assertNotIn(("net", "http://b.test:8545"), world.values("loadbalancer_node_latency_seconds"))

    def test_best_endpoint(self) -> None:
        """1 for the first of the order, of whatever role, 0 for all others; 0 for all when nobody can serve."""
        world = World(*nodes_of("a", "m", "f"))
        ends = [("net", f"http://{name}.test:8545") for name in "amf"]
        best = "loadbalancer_best_endpoint"
        self.assertEqual(world.values(best), dict.fromkeys(ends, 0))
        for index in range(3):
            world.poll(index)
        self.assertEqual(world.values(best), dict(zip(ends, (1, 0, 0), strict=True)))
        world.fail_polls(0)
        self.assertEqual(world.values(best), dict(zip(ends, (0, 1, 0), strict=True)))
        world.fail_polls(1)
        self.assertEqual(world.values(best), dict(zip(ends, (0, 0, 1), strict=True)))
        world.fail_polls(2)
        self.assertEqual(world.values(best), dict.fromkeys(ends, 0))

    def test_errors(self) -> None:
        """Polls and attempts are told apart; what is not the node's doing is nobody's error."""
        world = World(*nodes_of("a"))
        world.polls[0].update({"ok": 9, "unreachable": 1, "timed_out": 2, "garbage": 3, "load_error": 4})
        for klass, outcome, count in (
            (MethodClass.FAST, "unreachable", 1),
            (MethodClass.FAST, "timed_out", 10),
            (MethodClass.SLOW, "disconnected", 100),
            (MethodClass.UNSAFE, "http_error", 1000),
            *((MethodClass.FAST, o, 10**6) for o in ("client_left", "null", "missing_data", "unsupported", "rejected")),
            (MethodClass.FAST, "rpc_error", 10**6),
            (MethodClass.SLOW, "timed_out", 10**6),
        ):
            world.stats.failed[0, klass, outcome] += count
        errors = {kind: value for (*_, kind), value in world.values("loadbalancer_node_errors_total").items()}
        self.assertEqual(errors, {"dial_error": 1, "chainhead_error": 5, "load_error": 4, "proxy_error": 1111})

    def test_requests_by_ip(self) -> None:
        """Each address has its series, up to a bound; the rest is one."""
        world = World()
        for number in range(MAX_CLIENTS + 7):
            world.stats.record_request(f"192.0.2.{number}", 0.1)
        values = world.values("loadbalancer_requests_by_ip_total")
        self.assertEqual(len(values), MAX_CLIENTS + 1)
        self.assertEqual(values["other", "net"], 7)
        self.assertEqual(world.values("loadbalancer_requests_total"), {("net",): MAX_CLIENTS + 7})

    def test_secrets_are_masked(self) -> None:
        """The key in an endpoint's URL is on no page."""
        key = "0123456789abcdef"
        world = World(node_config("a", url=f"https://user:pass@node.test/v3/{key}?token=hush"))
        world.poll(0)
        text = world.text()
        self.assertNotIn(key, text)
        self.assertNotIn("pass", text)
        self.assertNotIn("hush", text)
        self.assertIn('rpc_endpoint="https://***', text)

    def test_the_same_endpoint_twice(self) -> None:
        """Two nodes behind one URL have different series: the same series twice would void the whole page."""
        world = World(*(node_config(name, url="http://same.test") for name in "ab"))
        world.poll(0, 5)
        world.poll(1, 4)
        expected = {("net", "http://same.test"): 5, ("net", "http://same.test#b"): 4}
        self.assertEqual(world.values("loadbalancer_node_chainhead"), expected)


class OwnTests(SynchronousTestCase):
    def test_labels_are_never_addresses(self) -> None:
        """In our own families a node goes by its name."""
        for family in parse_text(busy_world().text()):
            for sample in family.samples:
                if sample.name.startswith("evmlb_"):
                    self.assertNotIn("://", str(sample.labels), sample.name)
                    self.assertNotIn("192.0.2.1", str(sample.labels), sample.name)

    def test_attempts(self) -> None:
        """Attempts by node, class and how they ended; the good ones are there from the start."""
        world = World(*nodes_of("a"))
        world.stats.answered[0][MethodClass.SLOW] += 3
        world.stats.failed[0, MethodClass.UNSAFE, "client_left"] += 2
        expected = {
            ("fast", "net", "a", "answered"): 0,
            ("slow", "net", "a", "answered"): 3,
            ("unsafe", "net", "a", "answered"): 0,
            ("unsafe", "net", "a", "client_left"): 2,
        }
        self.assertEqual(world.values("evmlb_attempts_total"), expected)

    def test_numbers_of_a_network(self) -> None:
        """What is under way, waits, was refused and tried again."""
        world = World()
        world.stats.in_flight, world.stats.queued, world.stats.failovers = 5, 2, 3
        world.stats.refusals[503] += 4
        self.assertEqual(world.values("evmlb_requests_in_flight"), {("net",): 5})
        self.assertEqual(world.values("evmlb_requests_queued"), {("net",): 2})
        self.assertEqual(world.values("evmlb_failovers_total"), {("net",): 3})
        self.assertEqual(world.values("evmlb_refusals_total"), {("net", "503"): 4})

    def test_chainhead_and_its_age(self) -> None:
        """There once it is known; its age grows while it stands still."""
        world = World()
        self.assertEqual(world.values("evmlb_chainhead_age_seconds"), {})
        world.poll(0, 100)
        world.now = 12.5
        self.assertEqual(world.values("evmlb_network_chainhead"), {("net",): 100})
        self.assertEqual(world.values("evmlb_chainhead_age_seconds"), {("net",): 12.5})

    def test_state_of_a_node(self) -> None:
        """Usable, rank, head and its age, the last good poll, what is in flight."""
        world = World(*nodes_of("a b"))
        world.poll(0, 100)
        world.network.nodes[0].in_flight = 7
        world.now = 2.0
        a, b = ("net", "a"), ("net", "b")
        self.assertEqual(world.values("evmlb_node_usable"), {a: 1, b: 0})
        self.assertEqual(world.values("evmlb_node_rank"), {a: 0})
        self.assertEqual(world.values("evmlb_node_head"), {a: 100})
        self.assertEqual(world.values("evmlb_node_head_age_seconds"), {a: 2})
        self.assertEqual(world.values("evmlb_node_last_good_poll_age_seconds"), {a: 2})
        self.assertEqual(world.values("evmlb_node_lag_blocks"), {a: 0})
        self.assertEqual(world.values("evmlb_node_latency_seconds"), {a: 0.02})
        self.assertEqual(world.values("evmlb_node_in_flight"), {a: 7, b: 0})
        self.assertEqual(world.values("evmlb_node_capacity"), {a: 512, b: 512})
        self.assertEqual(world.values("evmlb_node_info"), {("net", "a", "local"): 1, ("net", "b", "local"): 1})

    def test_suspect_and_ejected(self) -> None:
        """A node that requests failed at is suspect, then ejected and not usable."""
        world = World(*nodes_of("a b"))
        world.poll(0)
        world.poll(1)
        node = world.network.nodes[0]
        world.network.record_failure(node, "reset", 0.0, proven=True)
        self.assertEqual(world.values("evmlb_node_suspect"), {("net", "a"): 1, ("net", "b"): 0})
        for step in range(20):
            world.network.record_failure(node, "reset", float(step), proven=True)
        self.assertEqual(world.values("evmlb_node_ejected"), {("net", "a"): 1, ("net", "b"): 0})
        self.assertEqual(world.values("evmlb_node_usable"), {("net", "a"): 0, ("net", "b"): 1})

    def test_who_serves(self) -> None:
        """The serving role, how many may serve, and whether they are only the nearest."""
        world = World(*nodes_of("a", "", "f"))
        self.assertEqual(world.values("evmlb_network_candidates"), {("net",): 0})
        world.poll(0)
        tiers = {(role, "net"): value for (_, role), value in world.values("evmlb_network_tier").items()}
        self.assertEqual(tiers, {("local", "net"): 1, ("monitoring", "net"): 0, ("fallback", "net"): 0})
        self.assertEqual(world.values("evmlb_network_candidates"), {("net",): 1})
        self.assertEqual(world.values("evmlb_network_degraded"), {("net",): 0})

    def test_events_are_counted(self) -> None:
        """Each kind of event has its counter, there from the start."""
        world = World(*nodes_of("a"))
        changes = world.values("evmlb_node_changes_total")
        self.assertEqual(set(changes.values()), {0})
        ids: dict[str, Any] = {"network": "net", "node": "a"}
        world.metrics.observe(
            (
                NodeWentDown(**ids, reason="r"),
                NodeCameUp(**ids, reason="r"),
                NodeBecameSuspect(**ids, reason="r"),
                NodeFellBehind(**ids, lag_blocks=9, limit_blocks=5),
                NodeCaughtUp(**ids, lag_blocks=0),
                NodeHeadDoubted(**ids, number=9, chainhead=1),
                NodeOnWrongChain(**ids, chain_id=5, expected=1),
                OrderChanged(network="net", tier=Role.LOCAL, nodes=("a",), reason="r"),
                ChainIdDisputed(network="net", chain_ids=(1, 5)),
                ChainheadMoved(network="net", number=5, previous=None),
                ChainheadMoved(network="net", number=6, previous=5),
                ChainheadMoved(network="net", number=4, previous=6),
                ChainheadMoved(network="net", number=None, previous=4),
            )
        )
        self.assertEqual(world.values("evmlb_node_changes_total"), dict.fromkeys(changes, 1))
        self.assertEqual(len(changes), 7)
        self.assertEqual(world.values("evmlb_order_changes_total"), {("net",): 1})
        self.assertEqual(world.values("evmlb_chain_id_disputes_total"), {("net",): 1})
        self.assertEqual(world.values("evmlb_chainhead_drops_total"), {("net",): 2})

    def test_polls(self) -> None:
        """Polls by how they ended; the good ones are there from the start."""
        world = World(*nodes_of("a b"))
        world.polls[0].update({"ok": 2, "timed_out": 1})
        expected = {("net", "a", "ok"): 2, ("net", "a", "timed_out"): 1, ("net", "b", "ok"): 0}
        self.assertEqual(world.values("evmlb_polls_total"), expected)

    def test_clients(self) -> None:
        """Connections open, accepted and rejected, and requests without a network."""
        world = World()
        world.front.open, world.front.accepted, world.front.rejected = 2, 10, 1
        world.front.bad_requests[404] += 3
        self.assertEqual(world.values("evmlb_client_connections"), {(): 2})
        self.assertEqual(world.values("evmlb_client_connections_accepted_total"), {(): 10})
        self.assertEqual(world.values("evmlb_client_connections_rejected_total"), {(): 1})
        self.assertEqual(world.values("evmlb_bad_requests_total"), {("404",): 3})

    def test_build_info(self) -> None:
        """What is running is a label."""
        (labels,) = World().values("evmlb_build_info")
        self.assertIn("1.2.3", labels)
        self.assertIn("uvloop", labels)

    def test_process(self) -> None:
        """CPU time, memory and start of the process, under the names that Prometheus' libraries use."""
        world = World()
        self.assertGreater(world.values("process_cpu_seconds_total")[()], 0)
        self.assertGreater(world.values("process_resident_memory_bytes")[()], 1e6)
        self.assertGreater(world.values("process_start_time_seconds")[()], 1.6e9)

    def test_no_proc(self) -> None:
        """Where the system does not say how much memory there is, the family is not there."""
        self.patch(process, "Path", lambda _: Path("/nowhere"))
        self.assertEqual(World().values("process_resident_memory_bytes"), {})

    def test_unknown_event(self) -> None:
        """An event that has no counter yet is no error."""
        World().metrics.observe((object(),))  # type: ignore[arg-type]

    def test_every_family_is_documented(self) -> None:
        """The reference names each family that there is, and no other."""
        world = busy_world()
        world.metrics = Metrics([world.source], world.front, "1", lambda: 0.0, loop_lag=LoopLag(Clock(), lambda: 0.0))
        names = set(re.findall(r"^# TYPE (\S+)", world.text(), re.MULTILINE))
        page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
        documented = set(re.findall(r"^\| `((?:loadbalancer|evmlb|process)_\w+)`", page, re.MULTILINE))
        self.assertEqual(names, documented)


class PageTests(SynchronousTestCase):
    def test_openmetrics(self) -> None:
        """Who accepts OpenMetrics gets it, and the strict parser finds the same numbers in it."""
        world = busy_world()
        page = world.metrics.render(OPENMETRICS)
        self.assertTrue(page.content_type.startswith("application/openmetrics-text; version=1.0.0"))
        text = b"".join(page.slices).decode()
        self.assertTrue(text.endswith("# EOF\n"))
        self.assertEqual(text.count("# EOF"), 1)
        self.assertEqual(_numbers(parse_openmetrics(text)), _numbers(parse_text(world.text())))

    def test_content_type_of_text(self) -> None:
        """Without a preference it is the text format."""
        self.assertEqual(World().metrics.render(None).content_type, "text/plain; version=0.0.4; charset=utf-8")

    def test_headers_that_make_no_sense(self) -> None:
        """Whatever the Accept header says, there is a page."""
        for accept in ("", "*/*", "application/openmetrics-text; version=abc", ";;;,=", "text/plain;version=x.y", "\0"):
            self.assertIn("loadbalancer_requests_total", World().text(accept), accept)

    def test_slices_are_small(self) -> None:
        """However many series there are, a slice has few; together they are one page with one head per family."""
        worlds = [World(name=f"net{number}") for number in range(30)]
        for world in worlds:
            for client in range(40):
                world.stats.record_request(f"192.0.2.{client}", 0.1)
        for accept, parse in ((None, parse_text), (OPENMETRICS, parse_openmetrics)):
            metrics = Metrics([world.source for world in worlds], FrontStats(), "1", lambda: 0.0)
            slices = list(metrics.render(accept).slices)
            samples = [sum(not line.startswith(b"#") for line in part.splitlines()) for part in slices]
            self.assertLessEqual(max(samples), SLICE_SAMPLES)
            text = b"".join(slices).decode()
            heads = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
            self.assertEqual(len(heads), len(set(heads)))
            clients = [f for f in parse(text) if f.name == "loadbalancer_requests_by_ip"]
            self.assertEqual(len(clients[0].samples), 30 * 40)

    def test_numbers_change_meanwhile(self) -> None:
        """Requests that come between two slices do not disturb the page."""
        world = World()
        for client in range(400):
            world.stats.record_request(f"192.0.2.{client}", 0.1)
        parts = []
        for number, part in enumerate(world.metrics.render(None).slices):
            parts.append(part)
            world.stats.record_request(f"198.51.100.{number}", 0.1)
            world.stats.failed[number % 4, MethodClass.FAST, f"new{number}"] += 1
            world.stats.refusals[500 + number] += 1
        self.assertTrue(list(parse_text(b"".join(parts).decode())))

    def test_awkward_names(self) -> None:
        """Whatever a network or a node is called, the page can be parsed and says it."""
        name = 'a"b\\c\nd'
        world = World(node_config('n"1\n', url="http://n.test"), name=name)
        self.assertEqual(list(world.values("evmlb_requests_in_flight")), [(name,)])

    def test_no_networks(self) -> None:
        """Without a network there is a page all the same."""
        page = Metrics([], FrontStats(), "1", lambda: 0.0).render(None)
        self.assertIn(b"evmlb_build_info", b"".join(page.slices))

    def test_own_registry(self) -> None:
        """The registry holds the same families, for whoever wants prometheus_client's own interface."""
        world = busy_world()
        whole = generate_latest(world.metrics.registry).decode()
        types = re.compile(r"^# TYPE (.*)$", re.MULTILINE)
        self.assertEqual(
            set(types.findall(whole)) - {"evmlb_loop_lag_seconds histogram"}, set(types.findall(world.text()))
        )


class LoopLagTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.late = 0.0
        self.lag = LoopLag(self.clock, lambda: self.clock.seconds() + self.late, interval_seconds=0.1)

    def test_on_time(self) -> None:
        """A loop that is on time counts in the first bucket."""
        self.lag.start()
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.lag.histogram.counts[0], 10)
        self.assertLess(self.lag.histogram.sum, 1e-6)

    def test_late(self) -> None:
        """A loop that was held shows by how much."""
        self.lag.start()
        self.late = 0.3
        self.clock.advance(0.1)
        self.assertAlmostEqual(self.lag.histogram.sum, 0.3)
        self.assertEqual(self.lag.histogram.counts[self.lag.histogram.bounds.index(0.5)], 1)

    def test_start_and_stop(self) -> None:
        """Started twice it measures once; stopped it leaves no timer, and may be started again."""
        self.lag.start()
        self.lag.start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.lag.stop()
        self.lag.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lag.start()
        self.clock.advance(0.1)
        self.assertEqual(sum(self.lag.histogram.counts), 1)

    def test_on_the_page(self) -> None:
        """It is a histogram on the page."""
        self.lag.histogram.observe(0.02)
        metrics = Metrics([], FrontStats(), "1", lambda: 0.0, loop_lag=self.lag)
        text = b"".join(metrics.render(None).slices).decode()
        self.assertIn('evmlb_loop_lag_seconds_bucket{le="0.025"} 1.0', text)
        self.assertIn('evmlb_loop_lag_seconds_bucket{le="0.01"} 0.0', text)


def _numbers(families: Any) -> set[tuple[Any, ...]]:
    """Every sample; bounds as numbers, because the formats write them differently, and without what changes."""
    return {
        (
            sample.name,
            tuple(sorted((k, float(v) if k == "le" else v) for k, v in sample.labels.items())),
            sample.value,
        )
        for family in families
        for sample in family.samples
        if not sample.name.startswith("process_")
    }
