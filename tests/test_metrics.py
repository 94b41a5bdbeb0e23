"""The metrics page, parsed back by prometheus_client's own parsers."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import HedgeConfig, Role
from evmlb.errors import Fault
from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeLimitLifted,
    NodeOnWrongChain,
    NodeRateLimited,
    NodeTimeAhead,
    NodeWentDown,
    OrderChanged,
)
from evmlb.methods import KNOWN, MethodClass
from evmlb.metrics import LoopLag, Metrics, MetricsSource, process
from evmlb.metrics.families import FAMILIES
from evmlb.metrics.numbers import NODE_CHANGES
from evmlb.metrics.own import USUAL_OUTCOMES
from evmlb.metrics.page import SLICE_SAMPLES
from evmlb.metrics.remedies import MAX_METHODS
from evmlb.network import Network
from evmlb.node import Poll
from evmlb.policy.breaker import BreakerState
from evmlb.policy.pace import FEWEST_ANSWERS, Paces
from evmlb.policy.priority import PriorityClass
from evmlb.stats import MAX_CLIENTS, FrontStats, NetworkStats, WebSocketStats
from evmlb.upstream.conversation import SocketStats
from tests.support import Still, network_config, node_config, nodes_of

ROOT = Path(__file__).resolve().parent.parent
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class World:
    """One network with its numbers, and the page about it."""

    def __init__(self, *nodes: Any, name: str = "net", **settings: Any) -> None:
        self.now = 0.0
        config = network_config(*(nodes or nodes_of("a b", "m", "f")), name=name, **settings)
        self.network = Network(config, 0.0, Still())
        self.stats = NetworkStats(len(self.network.nodes))
        self.polls: tuple[Counter[str], ...] = tuple(Counter() for _ in self.network.nodes)
        self.front = FrontStats()
        self.connections = tuple(SimpleNamespace(unasked=0) for _ in self.network.nodes)
        self.paces = Paces(HedgeConfig())
        self.websockets = WebSocketStats()
        self.hub = SimpleNamespace(
            counts={"newHeads": 0, "logs": 0, "other": 0},
            fanout=SimpleNamespace(delivered=0, lag_seconds=0.0),
            blocks=SimpleNamespace(backfilled=0, deepest_reorg=0),
            logs=SimpleNamespace(unproven=0),
            gaps_possible=0,
            cuts=0,
        )
        self.sockets = tuple(SimpleNamespace(stats=SocketStats(), is_connected=False) for _ in self.network.nodes)
        self.source = MetricsSource(
            self.network, self.stats, self.polls, self.connections, self.paces, self.hub, self.sockets
        )
        self.metrics = Metrics(
            [self.source], self.front, "1.2.3", lambda: self.now, loop="uvloop", websockets=self.websockets
        )

    def poll(self, index: int, number: int = 100, **facts: Any) -> None:
        poll = Poll(number=number, latency_seconds=0.02, started_at=self.now, chain_id=1, **facts)
        self.metrics.observe(self.network.observe_poll(self.network.nodes[index], poll, self.now))

    def fail_polls(self, index: int, times: int = 2) -> None:
        for _ in range(times):
            node = self.network.nodes[index]
            self.metrics.observe(self.network.observe_poll_failure(node, "refused", self.now, final=True))

    def fail(self, index: int = 0, times: int = 2, reason: str = "reset") -> None:
        """Requests fail at a node, and another one answers them."""
        for _ in range(times):
            node = self.network.nodes[index]
            self.metrics.observe(self.network.record_failure(node, reason, self.now, proven=True))

    def pace(self, method: str, seconds: float) -> None:
        """Enough answers for a percentile."""
        for _ in range(FEWEST_ANSWERS):
            self.paces.of(method).observe(seconds)
        self.paces.tick()

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
    world.stats.verdicts["reverted"] += 1
    world.websockets.closes[1000] += 1
    world.front.bad_requests[400] += 1
    world.fail(1)
    world.pace("eth_chainId", 0.001)
    return world


class WebSocketTests(SynchronousTestCase):
    def test_clients(self) -> None:
        """WebSockets of clients are counted for all networks together."""
        world = World()
        stats = world.websockets
        stats.open, stats.accepted, stats.rejected, stats.calls, stats.slow_closed = 1, 2, 3, 4, 5
        stats.messages_in, stats.messages_out = 6, 7
        for name, value in (
            ("connections", 1),
            ("accepted_total", 2),
            ("rejected_total", 3),
            ("calls_total", 4),
            ("slow_closed_total", 5),
        ):
            self.assertEqual(world.values(f"evmlb_websocket_{name}"), {(): value}, name)
        self.assertEqual(world.values("evmlb_websocket_messages_total"), {("in",): 6, ("out",): 7})

    def test_close_codes_are_bounded(self) -> None:
        """Clients cannot make series without end by closing with many codes."""
        world = World()
        for code in range(3000, 3100):
            world.websockets.closes[code] += 1
        world.websockets.closes[1000] += 5
        closes = world.values("evmlb_websocket_closes_total")
        self.assertEqual((len(closes), closes["1000",], closes["other",], sum(closes.values())), (33, 5, 69, 105))

    def test_subscriptions(self) -> None:
        """What the hub of a network counts is shown under the network's name."""
        world = World()
        world.hub.counts = {"newHeads": 2, "logs": 1, "other": 0}
        world.hub.fanout.delivered, world.hub.fanout.lag_seconds = 9, 0.25
        world.hub.blocks.backfilled, world.hub.blocks.deepest_reorg = 3, 2
        world.hub.gaps_possible, world.hub.cuts, world.hub.logs.unproven = 4, 5, 6
        kinds = {("newHeads", "net"): 2, ("logs", "net"): 1, ("other", "net"): 0}
        self.assertEqual(world.values("evmlb_subscriptions"), kinds)
        for name, value in (
            ("subscription_events_total", 9),
            ("fanout_lag_seconds", 0.25),
            ("backfilled_blocks_total", 3),
            ("deepest_reorg_blocks", 2),
            ("gaps_possible_total", 4),
            ("subscribers_cut_total", 5),
            ("unproven_logs_total", 6),
        ):
            self.assertEqual(world.values(f"evmlb_{name}"), {("net",): value}, name)

    def test_nodes(self) -> None:
        """The WebSockets to nodes have the node's name."""
        world = World()
        world.sockets[1].is_connected = True
        world.sockets[1].stats.losses = 2
        world.sockets[1].stats.messages_in = 8
        self.assertEqual(world.values("evmlb_node_websocket_up")["net", "b"], 1)
        self.assertEqual(world.values("evmlb_node_websocket_up")["net", "a"], 0)
        self.assertEqual(world.values("evmlb_node_websocket_losses_total")["net", "b"], 2)
        self.assertEqual(world.values("evmlb_node_websocket_messages_total")["in", "net", "b"], 8)

    def test_no_websocket(self) -> None:
        """A network without WebSocket has none of these."""
        world = World()
        source = MetricsSource(world.network, world.stats, world.polls)
        world.metrics = Metrics([source], world.front, "1", lambda: 0.0)
        self.assertEqual(world.values("evmlb_subscriptions"), {})
        self.assertEqual(world.values("evmlb_node_websocket_up"), {})


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
        world.polls[0]["check_failed"] = 10**6
        for klass, outcome, count in (
            (MethodClass.FAST, "unreachable", 1),
            (MethodClass.FAST, "timed_out", 10),
            (MethodClass.SLOW, "disconnected", 100),
            (MethodClass.UNSAFE, "http_error", 1000),
            *((MethodClass.FAST, o, 10**6) for o in ("client_left", "lost", "null", "missing_data", "unsupported")),
            (MethodClass.FAST, "rejected", 10**6),
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
        world.stats.failed[0, MethodClass.FAST, "timed_out"] += 1
        classes = ("fast", "slow", "unsafe")
        expected = {(klass, "net", "a", outcome): 0 for klass in classes for outcome in ("answered", *USUAL_OUTCOMES)}
        expected |= {
            ("slow", "net", "a", "answered"): 3,
            ("unsafe", "net", "a", "client_left"): 2,
            ("fast", "net", "a", "timed_out"): 1,
        }
        self.assertEqual(world.values("evmlb_attempts_total"), expected)

    def test_states(self) -> None:
        """Each node is in one state, the same as on the page; who may be asked is usable, who answers serves."""
        world = World(*nodes_of("a b", fallback="f"), switch_to_fallback_enabled=True)
        for node in world.network.nodes[1:]:
            poll = Poll(number=100, latency_seconds=0.01, started_at=0.0, chain_id=1)
            world.network.observe_poll(node, poll, 0.0)
        found = {labels: on for labels, on in world.values("evmlb_node_state").items() if on}
        expected = {("net", "a", "unknown"): 1, ("net", "b", "serving"): 1, ("net", "f", "reserve"): 1}
        self.assertEqual(found, expected)
        self.assertEqual(world.values("evmlb_node_usable"), {("net", "a"): 0, ("net", "b"): 1, ("net", "f"): 1})
        self.assertEqual(world.values("evmlb_node_serving"), {("net", "a"): 0, ("net", "b"): 1, ("net", "f"): 0})
        world.network.record_limited(world.network.nodes[2], 9.0, 0.0)
        self.assertEqual(world.values("evmlb_node_usable")["net", "f"], 0)
        self.assertEqual(world.values("evmlb_node_state")["net", "f", "limited"], 1)

    def test_numbers_of_a_network(self) -> None:
        """What is under way, waits, was refused and tried again."""
        world = World()
        world.stats.in_flight, world.stats.queued, world.stats.failovers = 5, 2, 3
        world.stats.refusals[503] += 4
        self.assertEqual(world.values("evmlb_requests_in_flight"), {("net",): 5})
        self.assertEqual(world.values("evmlb_requests_queued"), {("net",): 2})
        self.assertEqual(world.values("evmlb_failovers_total"), {("net",): 3})
        self.assertEqual(
            world.values("evmlb_refusals_total"),
            {**{("net", status): 0 for status in ("429", "502", "504")}, ("net", "503"): 4},
        )

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
                NodeRateLimited(**ids, told=True),
                NodeLimitLifted(**ids),
                NodeTimeAhead(**ids, seconds=60.0),
                OrderChanged(network="net", tier=Role.LOCAL, nodes=("b", "a"), reason="r", reordered=True),
                OrderChanged(network="net", tier=Role.LOCAL, nodes=("a",), reason="r"),
                ChainIdDisputed(network="net", chain_ids=(1, 5)),
                ChainheadMoved(network="net", number=5, previous=None),
                ChainheadMoved(network="net", number=6, previous=5),
                ChainheadMoved(network="net", number=4, previous=6),
                ChainheadMoved(network="net", number=None, previous=4),
            )
        )
        self.assertEqual(world.values("evmlb_node_changes_total"), dict.fromkeys(changes, 1))
        self.assertEqual(len(changes), 10)
        self.assertEqual(world.values("evmlb_order_changes_total"), {("net",): 2})
        self.assertEqual(world.values("evmlb_reorders_total"), {("net",): 1})
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

    def test_gzip(self) -> None:
        """What compressing saves, and how often it was not done."""
        world = World()
        world.front.gzip_bytes_in, world.front.gzip_bytes_out, world.front.gzip_skipped = 100, 20, 3
        for name, value in (("input_bytes", 100), ("output_bytes", 20), ("skipped", 3)):
            self.assertEqual(world.values(f"evmlb_gzip_{name}_total"), {(): value})

    def test_build_info(self) -> None:
        """What is running is a label."""
        (labels,) = World().values("evmlb_build_info")
        self.assertIn("1.2.3", labels)
        self.assertIn("uvloop", labels)

    def test_process(self) -> None:
        """CPU time, memory, descriptors and start of the process, named and meant as in Prometheus' own collector."""
        world = World()
        theirs = {family.name: family.samples[0].value for family in ProcessCollector(registry=None).collect()}
        own = {name: world.values(name)[()] for name in theirs if name != "process_cpu_seconds"}
        self.assertEqual(own["process_max_fds"], theirs["process_max_fds"])
        self.assertEqual(own["process_open_fds"] + 1, theirs["process_open_fds"])  # which counts its listing as well
        self.assertLess(own["process_resident_memory_bytes"], own["process_virtual_memory_bytes"])
        self.assertGreater(world.values("process_cpu_seconds_total")[()], 0)
        self.assertGreater(world.values("process_resident_memory_bytes")[()], 1e6)
        self.assertGreater(world.values("process_start_time_seconds")[()], 1.6e9)

    def test_no_proc(self) -> None:
        """Where the system does not say how much memory there is, the family is not there."""
        self.patch(process, "Path", lambda _: Path("/nowhere"))
        for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"):
            self.assertEqual(World().values(name), {}, name)

    def test_descriptors(self) -> None:
        """Open descriptors are counted, also where the system does not give their number by itself."""
        for path in (Path, _Unsized):
            self.patch(process, "Path", path)
            before = World().values("process_open_fds")[()]
            with ExitStack() as opened:
                for _ in range(10):
                    opened.enter_context(Path(os.devnull).open())
                self.assertEqual(World().values("process_open_fds")[()] - before, 10, path)

    def test_unknown_event(self) -> None:
        """An event that has no counter yet is no error."""
        World().metrics.observe((object(),))  # type: ignore[arg-type]

    def test_every_family_is_documented(self) -> None:
        """The reference names each family that there is, and no other."""
        world = busy_world()
        lag = LoopLag(Clock(), lambda: 0.0)
        world.metrics = Metrics(
            [world.source], world.front, "1", lambda: 0.0, loop_lag=lag, websockets=world.websockets
        )
        names = set(re.findall(r"^# TYPE (\S+)", world.text(), re.MULTILINE))
        page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
        documented = set(re.findall(r"^\| `((?:loadbalancer|evmlb|process)_\w+)`", page, re.MULTILINE))
        self.assertEqual(names, documented)

    def test_every_word_is_documented(self) -> None:
        """So does it name each way in which an attempt or a poll may end, each change of a node, each class."""
        page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
        outcomes = ["answered", "client_left", "lost", "ok", "load_error", "check_failed", *(f.value for f in Fault)]
        classes = [klass.name.lower() for klass in PriorityClass]
        states = [state.value for state in BreakerState]
        for word in (*outcomes, *NODE_CHANGES.values(), *classes, "bound", *states):
            self.assertIn(f"`{word}`", page)


class RemedyTests(SynchronousTestCase):
    """What is done about nodes that fail, are slow, or are asked too much."""

    def test_counters(self) -> None:
        """Hedges, retries and refusals of overload are there from the start, and each has its own number."""
        names = ("hedges", "hedges_won", "hedges_denied", "retries_denied", "shed")
        world = World()
        families = {name: f"evmlb_{'requests_' * (name == 'shed')}{name}_total" for name in names}
        for family in families.values():
            self.assertEqual(world.values(family), {("net",): 0}, family)
        for number, name in enumerate(names, 1):
            setattr(world.stats, name, number)
        self.assertEqual([world.values(families[name])["net",] for name in names], [1, 2, 3, 4, 5])

    def test_queue(self) -> None:
        """Who waits, by class; those who may only go to certain nodes are none of the three."""
        world = World()
        world.stats.queued, world.stats.queued_by_class = 10, (1, 2, 3)
        expected = {("fasttrack", "net"): 1, ("highprio", "net"): 2, ("lowprio", "net"): 3, ("bound", "net"): 4}
        self.assertEqual(world.values("evmlb_queue_length"), expected)
        self.assertEqual(world.values("evmlb_requests_queued"), {("net",): sum(expected.values())})

    def test_hedge_delays(self) -> None:
        """The delays that come from answers; the first delay, which holds before, is none."""
        world = World()
        world.paces.of("eth_getCode")
        world.pace("eth_chainId", 0.001)
        world.pace("eth_getLogs", 9.0)
        expected = {("eth_chainId", "net"): 0.05, ("eth_getLogs", "net"): 2.0}
        self.assertEqual(world.values("evmlb_hedge_delay_seconds"), expected)

    def test_hedge_delays_are_bounded(self) -> None:
        """Few methods have a series, always the same; all fast ones there are find room."""
        world = World()
        for number in range(MAX_METHODS + 9):
            world.pace(f"m{number}", 0.001)
        shown = {(f"m{number}", "net"): 0.05 for number in range(MAX_METHODS)}
        self.assertEqual(world.values("evmlb_hedge_delay_seconds"), shown)
        self.assertLessEqual(list(KNOWN.values()).count(MethodClass.FAST), MAX_METHODS)

    def test_breaker(self) -> None:
        """Closed, open with the time until a trial, half-open while that is under way, closed again."""
        world = World(*nodes_of("a b"))
        for index in range(2):
            world.poll(index)
        self.assertEqual(self.breaker(world), "closed")
        self.assertEqual(world.values("evmlb_node_next_trial_seconds"), {})
        world.fail()
        world.now = 0.25
        self.assertEqual(self.breaker(world), "open")
        self.assertEqual(world.values("evmlb_node_next_trial_seconds"), {("net", "a"): 0.75})
        world.now = 1.5
        self.assertEqual((self.breaker(world), world.values("evmlb_node_next_trial_seconds")["net", "a"]), ("open", 0))
        world.network.begin_trial(world.network.nodes[0], world.now)
        self.assertEqual(self.breaker(world), "half-open")
        world.network.record_success(world.network.nodes[0], world.now)
        self.assertEqual(self.breaker(world), "closed")
        self.assertEqual(self.breaker(world, "b"), "closed")

    def breaker(self, world: World, node: str = "a") -> str:
        """The one state that is 1; all three are there."""
        states = {state: value for (_, name, state), value in self.states(world) if name == node}
        self.assertEqual(set(states), {"closed", "open", "half-open"})
        [state] = [state for state, value in states.items() if value]
        self.assertEqual(states[state], 1)
        return state

    def states(self, world: World) -> list[tuple[tuple[str, ...], float]]:
        return list(world.values("evmlb_node_breaker_state").items())

    def test_rate_limit(self) -> None:
        """Whether a node is held off, and for how long still; a good probe ends it."""
        world = World(*nodes_of("a b"))
        node = world.network.nodes[0]
        world.metrics.observe(world.network.record_limited(node, 9.0, 0.0))
        world.now = 2.0
        self.assertEqual(world.values("evmlb_node_rate_limited"), {("net", "a"): 1, ("net", "b"): 0})
        self.assertEqual(world.values("evmlb_node_rate_limited_seconds"), {("net", "a"): 7, ("net", "b"): 0})
        node.limit.begin_probe(9.0)
        world.metrics.observe(world.network.observe_probe(node, True, None, 9.0))
        self.assertEqual(world.values("evmlb_node_rate_limited"), {("net", "a"): 0, ("net", "b"): 0})
        self.assertEqual(world.values("evmlb_node_rate_limited_seconds"), {("net", "a"): 0, ("net", "b"): 0})
        changes = world.values("evmlb_node_changes_total")
        self.assertEqual([changes[what, "net", "a"] for what in ("rate_limited", "limit_lifted")], [1, 1])

    def test_unsupported_methods(self) -> None:
        """How many methods a node lacks, until that is forgotten."""
        world = World(*nodes_of("a b"))
        for method in ("trace_block", "debug_traceCall", "trace_block"):
            world.network.record_unsupported(world.network.nodes[1], method, 0.0)
        self.assertEqual(world.values("evmlb_node_unsupported_methods"), {("net", "a"): 0, ("net", "b"): 2})
        world.network.expire(601.0)
        self.assertEqual(world.values("evmlb_node_unsupported_methods"), {("net", "a"): 0, ("net", "b"): 0})

    def test_unasked(self) -> None:
        """Answers to nothing, by the node that gave them."""
        world = World(*nodes_of("a b"))
        world.connections[1].unasked = 3
        self.assertEqual(world.values("evmlb_node_unasked_answers_total"), {("net", "a"): 0, ("net", "b"): 3})

    def test_no_sources(self) -> None:
        """Where nobody says what connections and paces there are, these families are empty, and the page is whole."""
        world = World()
        source = MetricsSource(world.network, world.stats, world.polls)
        world.metrics = Metrics([source], world.front, "1", lambda: 0.0)
        for name in ("evmlb_node_unasked_answers_total", "evmlb_hedge_delay_seconds"):
            self.assertEqual(world.values(name), {}, name)
        self.assertEqual(world.values("evmlb_hedges_total"), {("net",): 0})


class LintTests(SynchronousTestCase):
    """What ``promtool check metrics`` objects to (prometheus/client_golang, prometheus/testutil/promlint)."""

    UNITS = frozenset(("milliseconds", "microseconds", "ms", "us", "ns", "s", "minutes", "hours", "days", "kb", "mb"))

    def test_names(self) -> None:
        """Counters end in _total and nothing else does; no suffix of a histogram, no type, no odd unit in a name."""
        for family in FAMILIES:
            words = family.name.split("_")
            self.assertRegex(family.name, r"^[a-z][a-z0-9_]*$")
            self.assertEqual(words[-1] == "total", family.kind == "counter", family.name)
            self.assertNotIn(words[-1], ("count", "sum", "bucket"), family.name)
            self.assertFalse({"gauge", "counter", "histogram", "summary", *self.UNITS} & set(words), family.name)

    def test_help_and_labels(self) -> None:
        """Each has a help of one sentence or more; labels are names, and none that a histogram needs itself."""
        for family in FAMILIES:
            self.assertRegex(family.help, r"^[A-Z1].*\w\.$", family.name)
            self.assertNotIn("\n", family.help)
            self.assertEqual(len(set(family.labels)), len(family.labels), family.name)
            for label in family.labels:
                self.assertRegex(label, r"^[a-z][a-z_]*$")
                self.assertNotIn(label, ("le", "quantile", "job", "instance"), family.name)

    def test_no_family_twice(self) -> None:
        """Two families of one name would void the page."""
        names = [family.name for family in FAMILIES]
        self.assertEqual(len(names), len(set(names)))


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


class _Unsized(type(Path())):  # type: ignore[misc]
    """A path as older systems know it: the folder of descriptors has no size."""

    def stat(self, *, follow_symlinks: bool = True) -> SimpleNamespace:
        return SimpleNamespace(st_size=0)


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
