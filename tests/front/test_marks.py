"""What clients ask for beside an answer: the path of a request, and the class in which it waits."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import ExplainFor, PriorityQueueConfig
from evmlb.errors import Fault
from evmlb.exchange import Exchange
from evmlb.front.front import Front
from evmlb.front.marks import MAX_LINE_BYTES, Marks
from evmlb.trail import MAX_STEPS, Trail
from tests.front.support import BALANCE, FrontWorld, Reply, Visitor, post, read_replies
from tests.routing.support import World, call_body
from tests.support import FakeHead, config, node_config, run_property

ASKS = b"X-Evmlb-Explain: 1"
KEY = "0123456789abcdef"
RESULT = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'
QUEUE = ("queuedurationus", "simdurationus", "totaldurationus", "queuesizestart", "queuesizeend")


class MarkedWorld(FrontWorld):
    """A front before a network of one's own choice; ``front_settings`` are those of the whole."""

    def __init__(self, front_settings: dict[str, Any] | None = None, **network: Any) -> None:
        World.__init__(self, **network)
        self.front = Front(config(**(front_settings or {})), {"net": self.router}, 100, self.clock.seconds)


def path_of(reply: Reply) -> Any:
    """The path that an answer tells; None when it tells none."""
    line = reply.headers.get("x-evmlb-explain")
    return None if line is None else json.loads(line)


def steps_of(reply: Reply) -> list[tuple[str, str | None]]:
    return [(step["what"], step.get("node")) for step in path_of(reply)["steps"]]


class MarksTestCase(SynchronousTestCase):
    def make(self, *args: Any, **settings: Any) -> Visitor:
        self.world = FrontWorld(*args, **settings)
        return self.world.connect()


class WhoMayAskTests(MarksTestCase):
    def tells(self, explain: ExplainFor, peer: str, *lines: bytes) -> bool:
        """Whether a client from there that asks is told."""
        world = FrontWorld(explain=explain)
        address = IPv4Address("TCP", peer, 4711) if peer else UNIXAddress(None)
        visitor = world.connect(address)
        visitor.send(post(BALANCE, *(lines or (ASKS,))))
        world.last("a").result()
        return path_of(visitor.reply) is not None

    def test_who(self) -> None:
        """Nobody, everybody, or whoever has nobody before him who is not trusted."""
        nobody, trusted, everybody = ExplainFor.NOBODY, ExplainFor.TRUSTED, ExplainFor.EVERYBODY
        for explain, peer, forwarded_for, told in (
            (nobody, "127.0.0.1", "", False),
            (nobody, "", "", False),
            (everybody, "8.8.8.8", "", True),
            (everybody, "10.0.0.1", "8.8.8.8", True),
            (trusted, "127.0.0.1", "", True),
            (trusted, "10.0.0.1", "", True),
            (trusted, "", "", True),  # a UNIX socket
            (trusted, "8.8.8.8", "", False),
            (trusted, "8.8.8.8", "10.0.0.9", False),  # anybody can say so
            (trusted, "10.0.0.1", "8.8.8.8", False),  # the proxy is trusted, its client is not
            (trusted, "10.0.0.1", "10.0.0.9", True),
            (trusted, "10.0.0.1", "10.0.0.9, 8.8.8.8", False),
            (trusted, "10.0.0.1", "8.8.8.8, 10.0.0.9", False),
            (trusted, "10.0.0.1", "8.8.8.8:4711", False),  # as some proxies write it
            (trusted, "10.0.0.1", "unknown, 10.0.0.9", False),
            (trusted, "", "8.8.8.8", False),
            (trusted, "", "[2001:db8::1]:80", False),
            (trusted, "10.0.0.1", "fe80::1, 10.0.0.9", True),
        ):
            lines = (ASKS, f"X-Forwarded-For: {forwarded_for}".encode()) if forwarded_for else (ASKS,)
            self.assertEqual(self.tells(explain, peer, *lines), told, (explain, peer, forwarded_for))

    def test_no_trusted_proxies(self) -> None:
        """Where no address is trusted, only a process on this machine is that comes by a UNIX socket."""
        for address, told in ((IPv4Address("TCP", "127.0.0.1", 1), False), (UNIXAddress(None), True)):
            world = FrontWorld(trusted_proxies=())
            visitor = world.connect(address)
            visitor.send(post(BALANCE, ASKS))
            world.last("a").result()
            self.assertEqual(path_of(visitor.reply) is not None, told)

    def test_other_values(self) -> None:
        """It must say exactly 1, once; anything else is passed over, and the request answered."""
        for value, told in (
            (b"1", True),
            (b"  1\t", True),
            (b"0", False),
            (b"", False),
            (b"true", False),
            (b"01", False),
            (b"1, 1", False),
            (b"1\r\nX-Evmlb-Explain: 1", False),
        ):
            self.assertEqual(self.tells(ExplainFor.EVERYBODY, "8.8.8.8", b"X-Evmlb-Explain: " + value), told, value)


class PathTests(MarksTestCase):
    def test_answer(self) -> None:
        """An answer tells where its request might have gone, where it went, and when."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS))
        self.world.clock.advance(0.02)
        self.world.last("a").result()
        reply = visitor.reply
        self.assertEqual((reply.status, reply.body, reply["x-evmlb-node"]), (200, RESULT, "a"))
        path = path_of(reply)
        self.assertEqual([(c["node"], c["rank"]) for c in path["candidates"]], [("a", 0), ("b", 1)])
        self.assertTrue(all(c["reason"] for c in path["candidates"]))
        self.assertEqual(path["steps"], [{"at_ms": 0.0, "what": "asked", "node": "a"}])
        told = (path["network"], path["method"], path["outcome"], path["node"], path["attempts"], path["hedges"])
        self.assertEqual(told, ("net", "eth_getBalance", "answered", "a", 1, 0))
        self.assertEqual(path["total_ms"], 20.0)
        self.world.check_idle(self)

    def test_failover(self) -> None:
        """What went wrong on the way is told, in the node's own words."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").error(-32603, f"disk full{'!' * 190}")
        self.world.last("b").result()
        reply = visitor.reply
        self.assertEqual(steps_of(reply), [("asked", "a"), ("rpc_error", "a"), ("asked", "b")])
        self.assertTrue(path_of(reply)["steps"][1]["detail"].startswith(f"error -32603: disk full{'!' * 190}"))

    def test_refusal(self) -> None:
        """An answer of our own tells it too: after failures, and where there was nobody to ask."""
        visitor = self.make("a")
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").fail(Fault.GARBAGE, "not JSON")
        reply = visitor.reply
        self.assertEqual((reply.status, steps_of(reply)[:2]), (502, [("asked", "a"), ("garbage", "a")]))
        self.assertEqual((path_of(reply)["outcome"], path_of(reply)["node"]), ("refused", None))
        for _ in range(2):
            self.world.network.observe_poll_failure(self.world.nodes["a"], "refused", 0.0, final=True)
        visitor.send(post(BALANCE, ASKS))
        reply = visitor.reply
        self.assertEqual((reply.status, steps_of(reply)), (503, [("refused", None)]))
        self.assertEqual(path_of(reply)["candidates"][0]["rank"], None)

    def test_refusal_as_success(self) -> None:
        """Also where errors travel with status 200."""
        visitor = self.make("a", error_status=200)
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").fail(Fault.GARBAGE)
        reply = visitor.reply
        self.assertEqual((reply.status, path_of(reply)["outcome"]), (200, "refused"))

    def test_errors_of_nodes(self) -> None:
        """An error that is the client's own is an answer; one that no node could do better than is told as such."""
        visitor = self.make("a")
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").error(-32602, "missing value for required argument 0")
        self.assertEqual(path_of(visitor.reply)["outcome"], "answered")
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").error(-32601, "the method eth_getBalance does not exist/is not available")
        self.assertEqual(path_of(visitor.reply)["outcome"], "error answered")

    def test_refused_before(self) -> None:
        """A request that never came to a network's nodes has no path."""
        visitor = self.make()
        for request in (
            post(call_body("engine_newPayloadV4"), ASKS),
            post(b"{", ASKS),
            post(BALANCE, ASKS, path=b"/none"),
            b"GET / HTTP/1.1\r\nHost: x\r\n" + ASKS + b"\r\n\r\n",
        ):
            visitor.send(request)
            self.assertIsNone(path_of(visitor.reply), request)

    def test_large_answer(self) -> None:
        """A streamed answer tells what there was to tell when it began, and comes whole."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").fail(Fault.DISCONNECTED, "reset")
        sent = self.world.last("b")
        sent.begin(b'{"jsonrpc":"2.0","id":1,"result":"0x', b"00" * 1000)
        sent.sink.streamed(b"11" * 1000)
        sent.sink.streamed(b'"}')
        sent.sink.ended()
        reply = visitor.reply
        self.assertEqual(reply.body, b'{"jsonrpc":"2.0","id":1,"result":"0x' + b"00" * 1000 + b"11" * 1000 + b'"}')
        self.assertEqual(path_of(reply)["outcome"], "streamed")
        self.assertEqual(steps_of(reply), [("asked", "a"), ("disconnected", "a"), ("asked", "b")])
        self.world.check_idle(self)

    def test_passed_on(self) -> None:
        """What is passed on as it is has a path too, and HEAD no body."""
        visitor = self.make(network={"pass_other_requests": True})
        for method, heads in ((b"GET", ()), (b"HEAD", (0,))):
            visitor.send(b"%b /net/health HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (method, ASKS))
            body = b"" if heads else b"fine"
            self.world.last("a").sink.answered(FakeHead(content_type=b"text/plain"), [body])
            [reply] = visitor.replies(*heads)
            self.assertEqual((reply.status, reply.body, path_of(reply)["method"]), (200, body, method.decode()))

    def test_not_passed_on(self) -> None:
        """The question is ours: no node sees it, and no node answers it."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS, b"X-Fast-Track: true"))
        self.assertEqual(self.world.last("a").headers, b"")
        self.world.last("a").answer(RESULT, 200, ((b"x-evmlb-explain", b"lies"),))
        self.assertEqual(path_of(visitor.reply)["outcome"], "answered")

    def test_batch(self) -> None:
        """A batch is one request with one path."""
        visitor = self.make()
        visitor.send(post(b"[%b]" % BALANCE, ASKS))
        self.world.last("a").answer(b"[%b]" % RESULT)
        self.assertEqual(path_of(visitor.reply)["method"], "batch")

    def test_notification(self) -> None:
        """The empty answer to a notification tells it, good or bad."""
        notification = b'{"jsonrpc":"2.0","method":"eth_getBalance","params":[]}'
        visitor = self.make("a")
        visitor.send(post(notification, ASKS))
        self.world.last("a").answer(b"")
        self.assertEqual(path_of(visitor.reply)["outcome"], "answered")
        visitor.send(post(notification, ASKS))
        self.world.last("a").fail(Fault.GARBAGE)
        reply = visitor.reply
        self.assertEqual((reply.status, path_of(reply)["outcome"]), (204, "refused"))

    def test_pipelined(self) -> None:
        """Of several requests on a connection, those that asked are told, each of itself."""
        visitor = self.make("a")
        lines: tuple[tuple[bytes, ...], ...] = ((ASKS,), (), (ASKS,))
        visitor.send(b"".join(post(BALANCE, *line) for line in lines))
        for number in range(3):
            self.world.clock.advance(0.01 * (number + 1))
            self.world.last("a").result()
        paths = [path_of(reply) for reply in visitor.replies()]
        self.assertEqual([path and path["total_ms"] for path in paths], [10.0, None, 30.0])
        self.assertEqual(visitor.state, "open")

    def test_last_answer(self) -> None:
        """So is a request with which its connection ends."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS, version=b"HTTP/1.0"))
        self.world.last("a").result()
        reply = visitor.reply
        self.assertEqual((reply["connection"], path_of(reply)["outcome"]), ("close", "answered"))
        self.assertEqual(visitor.state, "closed")

    def test_own_headers_off(self) -> None:
        """It was asked for, so it does not go with the headers that nobody asked for."""
        visitor = self.make(answer_headers=False)
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").result()
        reply = visitor.reply
        self.assertIsNotNone(path_of(reply))
        self.assertNotIn("x-evmlb-node", reply.headers)

    def test_client_leaves(self) -> None:
        """A client that asked and left leaves nothing behind."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS))
        visitor.lose()
        self.world.check_idle(self)


class LineTests(MarksTestCase):
    """The line itself, whatever is told in it."""

    def line(self, visitor: Visitor) -> bytes:
        """The value of the header, of the one answer that came; that it is well-formed is checked on the way."""
        data = visitor.take()
        [reply] = read_replies(data)
        line = reply["x-evmlb-explain"].encode("latin-1")
        self.assertLessEqual(len(line), MAX_LINE_BYTES)
        self.assertTrue(all(0x20 <= byte < 0x7F for byte in line))
        self.assertIn(b"\r\nX-Evmlb-Explain: %b\r\n" % line, data)
        return line

    def test_hostile_words(self) -> None:
        """Neither a node's words, nor a method, nor a node's name can end the line or leave ASCII."""
        evil = "\r\nX-Evil: 1\r\n\r\n\0\x1b[2J\x7f\u202e\u2028é"
        node = node_config(f"a{evil}", url="http://a.test")
        self.world = MarkedWorld({"answer_headers": False}, nodes=(node, node_config("b")))
        visitor = self.world.connect()
        visitor.send(post(call_body("eth_é😀"), ASKS))
        error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": f"boom{evil}"}}
        self.world.spies[node.name].last.answer(json.dumps(error).encode())
        self.world.last("b").result()
        line = self.line(visitor)
        self.assertNotIn(b"\nX-Evil", line)
        path = json.loads(line)
        self.assertEqual(path["method"], "eth_é😀")
        shown = "\\r\\nX-Evil: 1\\r\\n\\r\\n\\x00\\x1b[2J\\x7f\\u202e\\u2028é"
        self.assertEqual(path["candidates"][0]["node"], f"a{shown}")
        self.assertTrue(path["steps"][1]["detail"].startswith(f"error -32603: boom{shown}"))

    def test_secrets(self) -> None:
        """A key that a node repeats is masked, as it is in the log."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").error(-32603, f"cannot reach https://user:hush@up.test/v3/{KEY}?token=hush")
        self.world.last("b").result()
        line = self.line(visitor)
        self.assertIn(b"cannot reach https://***", line)
        self.assertNotIn(KEY.encode(), line)
        self.assertNotIn(b"hush", line)

    def test_long_path(self) -> None:
        """A path too long for a line loses its candidates and later steps, says how many, and stays JSON."""
        nodes = tuple(node_config(f"n{number:02}") for number in range(40))
        self.world = MarkedWorld(nodes=nodes)
        visitor = self.world.connect()
        visitor.send(post(BALANCE, ASKS))
        for number in range(40):
            self.world.last(f"n{number:02}").error(-32603, "x" * 200)
        path = json.loads(self.line(visitor))
        self.assertEqual((path["candidates"], path["candidates_left_out"]), ([], 40))
        self.assertEqual((path["attempts"], path["outcome"]), (40, "error answered"))
        self.assertEqual(len(path["steps"]) + path["steps_left_out"], MAX_STEPS)
        self.assertEqual([step.get("node") for step in path["steps"][:4]], ["n00", "n00", "n01", "n01"])
        self.assertGreater(len(path["steps"]), 30)

    def test_room(self) -> None:
        """Of a path that is too long as many steps are told as there is room for, to the byte."""
        marks, exchange = Marks(config(), FrontWorld().front.clients), Exchange(None, None, b"", "", 0.0)  # type: ignore
        for length in range(70, 150):
            step = {"at_ms": 1.5, "what": "garbage", "node": "a", "detail": "x" * length}
            record = {"network": "net", "outcome": "refused", "candidates": [], "steps": [step] * MAX_STEPS}
            exchange.trail = Trail(asked=True)
            exchange.trail.record = record
            line = marks.lines(exchange)[17:-2]
            more = len(json.dumps(step, separators=(",", ":"))) + 1
            self.assertTrue(MAX_LINE_BYTES - more - 1 < len(line) <= MAX_LINE_BYTES, length)

    def test_nothing_left_out(self) -> None:
        """One that fits is whole, and does not speak of leaving out."""
        visitor = self.make()
        visitor.send(post(BALANCE, ASKS))
        self.world.last("a").result()
        self.assertFalse([name for name in json.loads(self.line(visitor)) if "left_out" in name])

    def test_any_record(self) -> None:
        """Whatever is in a record, the line is JSON on one line of printable ASCII, and no longer than it may be."""
        words = st.text(max_size=500) | st.sampled_from(["\U0001f600" * 500, "\ud800" * 500, '"\\' * 250])
        step = st.fixed_dictionaries({"at_ms": st.floats(0, 1e6), "what": words}, optional={"detail": words})
        candidate = st.fixed_dictionaries({"node": words, "rank": st.none() | st.integers(0, 99), "reason": words})
        records = st.fixed_dictionaries(
            {
                "network": words,
                "method": words,
                "outcome": st.sampled_from(["answered", "error answered"]),
                "node": st.none() | words,
                "candidates": st.lists(candidate, max_size=20),
                "steps": st.lists(step, max_size=MAX_STEPS),
            }
        )
        marks = Marks(config(), FrontWorld().front.clients)

        @given(records)
        def check(record: dict[str, Any]) -> None:
            exchange = Exchange(None, None, b"", "", 0.0)  # type: ignore[arg-type]
            exchange.trail = Trail(asked=True)
            exchange.trail.record = record
            line = marks.lines(exchange)
            assert line.startswith(b"X-Evmlb-Explain: ")
            value = line[17:-2]
            assert line[-2:] == b"\r\n"
            assert len(value) <= MAX_LINE_BYTES
            assert all(0x20 <= byte < 0x7F for byte in value)
            told = json.loads(value)
            assert told["outcome"] == record["outcome"]
            left_out = told.get("steps_left_out", 0), told.get("candidates_left_out", 0)
            assert len(told["steps"]) + left_out[0] == len(record["steps"])
            assert len(told["candidates"]) + left_out[1] == len(record["candidates"])

        run_property(check)


class NotAskedTests(MarksTestCase):
    def test_common_path(self) -> None:
        """A request that asks for nothing is not looked at for it, and its answer has no line more."""
        visitor = self.make()
        self.patch(self.world.front, "describe", None)
        self.patch(self.world.front, "marks", None)
        for _ in range(3):
            visitor.send(post())
            self.world.last("a").result()
        replies = visitor.replies()
        names = {"content-type", "content-length", "x-evmlb-node", "x-evmlb-attempts"}
        self.assertEqual([set(reply.headers) for reply in replies], [names] * 3)

    def test_story_of_its_own(self) -> None:
        """A request that had a story is told to operators, not to a client that did not ask."""
        visitor = self.make(explain=ExplainFor.EVERYBODY)
        visitor.send(post())
        self.world.last("a").fail(Fault.DISCONNECTED)
        self.world.last("b").result()
        visitor.send(post())
        for _ in range(2):
            self.world.last(self.world.sends[-1]).fail(Fault.GARBAGE)
        replies = visitor.replies()
        self.assertEqual([(reply.status, path_of(reply)) for reply in replies], [(200, None), (502, None)])
        self.assertEqual(len([*self.world.router._ring.failures()]), 1)

    def test_idle_connection(self) -> None:
        """After its answer a connection keeps nothing of what was asked: it looks like one that never asked."""
        asking, silent = self.make(), self.world.connect()
        asking.send(post(BALANCE, ASKS))
        self.world.last("a").result()
        silent.send(post())
        self.world.last("a").result()
        kept = []
        for visitor in (asking, silent):
            lane = visitor.lane
            slots = [name for kind in type(lane).__mro__ for name in getattr(kind, "__slots__", ())]
            kept.append({name: getattr(lane, name) for name in slots if name not in ("transport", "_head")})
            self.assertFalse(hasattr(lane, "__dict__"))
        self.assertEqual(*kept)
        self.assertEqual(kept[0]["_exchange"], None)


class PriorityTests(SynchronousTestCase):
    """The classes of prio-load-balancer, by its headers."""

    def setUp(self) -> None:
        self.world = MarkedWorld(
            {"explain": ExplainFor.NOBODY},
            nodes=(node_config("a", max_concurrency=1),),
            priority_queue=PriorityQueueConfig(enabled=True, highprio_methods=("eth_gasPrice",)),
            pass_other_requests=True,
        )

    def visit(self, *lines: bytes, body: bytes = BALANCE) -> Visitor:
        """A client that sends one request."""
        visitor = self.world.connect()
        visitor.send(post(body, *lines))
        return visitor

    def class_of(self, *lines: bytes, body: bytes = BALANCE) -> int:
        """The class in which a request waits: 0 is fast-track, 1 high, 2 low."""
        visitor = self.visit(*lines, body=body)
        counts = self.world.router.stats.queued_by_class
        visitor.lose()
        return counts.index(1)

    def test_headers(self) -> None:
        """Exactly true, in lower case; fast-track wins over high; header over method; without any it is low."""
        self.visit()
        for lines, klass in (
            ((), 2),
            ((b"X-Fast-Track: true",), 0),
            ((b"x-fast-track:true",), 0),
            ((b"X-Fast-Track: True",), 2),
            ((b"X-Fast-Track: 1",), 2),
            ((b"X-Fast-Track: true, true",), 2),
            ((b"X-High-Priority: true",), 1),
            ((b"high_prio: true",), 1),
            ((b"X-High-Priority: yes",), 2),
            ((b"high_priority: true",), 2),
            ((b"X-Fast-Track: true", b"X-High-Priority: true"), 0),
            ((b"X-Fast-Track: false", b"high_prio: true"), 1),
        ):
            self.assertEqual(self.class_of(*lines), klass, lines)
        self.assertEqual(self.class_of(body=call_body("eth_gasPrice")), 1)
        self.assertEqual(self.class_of(b"X-Fast-Track: true", body=call_body("eth_gasPrice")), 0)

    def test_passed_on(self) -> None:
        """What is no JSON-RPC waits in the same lines, so it has a class too."""
        self.visit()
        visitor = self.world.connect()
        visitor.send(b"GET /net/health HTTP/1.1\r\nHost: x\r\nX-Fast-Track: true\r\n\r\n")
        self.assertEqual(self.world.router.stats.queued_by_class, (1, 0, 0))

    def queue_of(self, reply: Reply) -> list[int]:
        return [int(reply[f"x-priolb-{name}"]) for name in QUEUE]

    def test_queue_headers(self) -> None:
        """An answer tells how long its request waited and was worked on, and behind how many of its class."""
        visitors = [self.visit(*line) for line in ((), (), (b"X-Fast-Track: true",), ())]
        self.assertEqual(self.world.router.stats.queued_by_class, (1, 0, 2))
        for _ in visitors:
            self.world.clock.advance(0.02)
            self.world.last("a").result()
            self.world.clock.pump([0.005])  # whoever waits is let go in the next turn
        queues = [self.queue_of(visitor.reply) for visitor in visitors]
        self.assertEqual([queue[3:] for queue in queues], [[1, 2], [1, 1], [1, 0], [2, 0]])
        for (waited, worked, total, *_), least in zip(queues, (0, 40_000, 20_000, 60_000), strict=True):
            self.assertTrue(0 <= waited - least <= 15_001, (waited, least))
            self.assertTrue(20_000 - 1 <= worked <= 20_001, worked)
            self.assertTrue(abs(waited + worked - total) <= 2)
        self.assertIsNone(path_of(self._answered()))  # nobody may ask

    def _answered(self, *lines: bytes) -> Reply:
        visitor = self.visit(ASKS, *lines)
        self.world.last("a").result()
        return visitor.reply

    def told_of(self, reply: Reply) -> set[str]:
        return {name for name in reply.headers if name.startswith("x-priolb")}

    def test_only_on_answers(self) -> None:
        """Those that a node gave, be it an error; none of our own, and none of which the end is not known yet."""
        everything = {f"x-priolb-{name}" for name in QUEUE}
        self.assertEqual(self.told_of(self._answered()), everything)
        visitor = self.visit()
        self.world.last("a").error(-32602, "invalid argument 0")
        self.assertEqual(self.told_of(visitor.reply), everything)
        visitor = self.visit()
        sent = self.world.last("a")
        sent.begin(b'{"jsonrpc":"2.0","id":1,"result":"0x')
        sent.sink.streamed(b'11"}')
        sent.sink.ended()
        self.assertEqual(self.told_of(visitor.reply), set())
        visitor = self.visit()
        self.world.last("a").fail(Fault.GARBAGE)
        reply = visitor.reply
        self.assertEqual((reply.status, self.told_of(reply)), (502, set()))

    def test_pipelined(self) -> None:
        """Each answer has its own."""
        visitor = self.world.connect()
        visitor.send(post() + post(BALANCE, b"X-Fast-Track: true"))
        for _ in range(2):
            self.world.clock.advance(0.01)
            self.world.last("a").result()
        self.assertEqual([self.queue_of(reply)[3:] for reply in visitor.replies()], [[1, 0], [1, 0]])

    def test_not_enabled(self) -> None:
        """Without priorities the headers are nothing to us."""
        world = FrontWorld("a")
        visitor = world.connect()
        visitor.send(post(BALANCE, b"X-Fast-Track: true"))
        world.last("a").result()
        reply = visitor.reply
        self.assertEqual((reply.status, self.told_of(reply)), (200, set()))
