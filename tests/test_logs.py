"""Lines of the log: form, levels, limits, and nothing that should not be in them."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher, jsonFileLogObserver, textFileLogObserver
from twisted.logger import LogLevel as TwistedLevel
from twisted.logger._legacy import publishToNewObserver
from twisted.python.log import textFromEventDict
from twisted.trial.unittest import SynchronousTestCase

from evmlb import logs
from evmlb.config.schema import LogLevel, Role
from evmlb.events import (
    ChainheadMoved,
    ChainIdDisputed,
    Event,
    NodeBecameSuspect,
    NodeCameUp,
    NodeCaughtUp,
    NodeFellBehind,
    NodeHeadDoubted,
    NodeLimitLifted,
    NodeOnWrongChain,
    NodeRateLimited,
    NodeStaysDown,
    NodeTimeAhead,
    NodeWentDown,
    OrderChanged,
)
from evmlb.logs import EventLog, LogObserver, hosts, install, installed, make_observer
from evmlb.logs.hosts import _installation
from evmlb.logs.limit import RateLimit
from tests.support import config, run_property

LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(ERROR|WARNING|INFO|DEBUG|TRACE)\] (.*)\n")


class Book:
    """A log in memory, with a clock."""

    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        self.file = io.StringIO()
        settings.setdefault("log_level", LogLevel.TRACE)
        self.observer: LogObserver = make_observer(config(**settings), self.file, lambda: self.now)
        self.log = Logger(namespace="test", observer=LogPublisher(self.observer))

    @property
    def text(self) -> str:
        return self.file.getvalue()

    @property
    def lines(self) -> list[str]:
        """Level and text of each line; every line has the form."""
        matches = [LINE.fullmatch(line) for line in self.text.splitlines(keepends=True)]
        return [f"{match[1]} {match[2]}" if match else "no line" for match in matches]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines of a JSON log."""
        return [json.loads(line) for line in self.text.split("\n")[:-1]]


class TextTests(SynchronousTestCase):
    def test_form(self) -> None:
        """The original's: date, time, level, text; in local time."""
        book = Book()
        book.observer({"log_time": 1_764_000_000.7, "log_level": TwistedLevel.info, "log_format": "hello {x}", "x": 1})
        at = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(1_764_000_000))
        self.assertEqual(book.text, f"{at} [INFO] hello 1\n")

    def test_levels(self) -> None:
        """Twisted's levels become the original's."""
        book = Book()
        for name in ("critical", "error", "warn", "info", "debug"):
            getattr(book.log, name)(name)
        book.log.debug("trace", trace=True)
        expected = ["ERROR critical", "ERROR error", "WARNING warn", "INFO info", "DEBUG debug", "TRACE trace"]
        self.assertEqual(book.lines, expected)

    def test_filter(self) -> None:
        """Each level shows itself and what is graver."""
        for level, count in (
            (LogLevel.ERROR, 1),
            (LogLevel.INFO, 2),
            (LogLevel.DEBUG, 3),
            (LogLevel.TRACE, 4),
        ):
            book = Book(log_level=level)
            book.log.error("e")
            book.log.info("i")
            book.log.debug("d")
            book.log.debug("t", trace=True)
            self.assertEqual(len(book.lines), count, level)

    def test_nothing_is_formatted_below_the_level(self) -> None:
        """What is not written costs next to nothing."""
        formatted: list[str] = []

        class Loud:
            def __format__(self, spec: str) -> str:
                formatted.append(spec)
                return "loud"

        book = Book(log_level=LogLevel.INFO)
        book.log.debug("{x}", x=Loud())
        self.assertEqual((formatted, book.text), ([], ""))

    def test_failure(self) -> None:
        """A traceback follows its line, each of its lines in the same form."""
        book = Book()
        try:
            raise ValueError("multi\nline")
        except ValueError:
            book.log.failure("it went wrong")
        self.assertEqual(book.lines[0], "ERROR it went wrong")
        self.assertEqual(book.lines[1], "ERROR | Traceback (most recent call last):")
        self.assertEqual(book.lines[-2:], ["ERROR | builtins.ValueError: multi", "ERROR | line"])

    def test_no_words(self) -> None:
        """An event without text is no line, a failure without text says what it is."""
        book = Book()
        book.observer({"log_time": 0.0, "log_level": TwistedLevel.info})
        self.assertEqual(book.text, "")
        try:
            raise ValueError("what it is")
        except ValueError:
            book.log.failure("")
        self.assertEqual(book.lines[0], "ERROR what it is")

    def test_what_cannot_be_formatted(self) -> None:
        """A format that does not fit its fields is one line too."""
        book = Book()
        book.log.info("{missing} {")
        self.assertEqual(len(book.lines), 1)
        self.assertIn("Unable to format", book.lines[0])

    def test_legacy_events(self) -> None:
        """What the old logging system says is written too, an error as one."""
        book = Book()
        for is_error in (0, 1):
            event = {"time": 0.0, "message": ("old",), "isError": is_error, "system": "-"}
            publishToNewObserver(book.observer, event, textFromEventDict)
        self.assertEqual([line.split()[0] for line in book.lines], ["DEBUG", "ERROR"])

    def test_encoding(self) -> None:
        """A file that cannot hold a character gets an escape, and the line is not lost."""
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, "ascii", newline="\n")
        observer = make_observer(config(), file)
        observer({"log_time": 0.0, "log_level": TwistedLevel.info, "log_format": "世"})
        self.assertIn(rb"\u4e16", raw.getvalue())

    def test_no_forged_lines(self) -> None:
        """Whatever an event says, in its text or in its fields, it is one line of the form."""

        @settings(max_examples=300, deadline=None)
        @given(st.text(), st.sampled_from(("text", "json")))
        def check(text: str, form: str) -> None:
            book = Book(log_format=form)
            book.log.info("said: {text}", text=text, more=[text])
            self.assertEqual(len(book.text.splitlines()), 1)
            if form == "text":
                self.assertNotIn("no line", book.lines)

        run_property(check)

    def test_no_secrets(self) -> None:
        """A key in a URL is in no line, not in the text, a field or a traceback."""

        @settings(max_examples=100, deadline=None)
        @given(st.text("0123456789abcdef", min_size=16, max_size=32), st.sampled_from(("text", "json")))
        def check(key: str, form: str) -> None:
            key = f"{key}7"
            book = Book(log_format=form)
            url = f"https://u:{key}@node.test/v3/{key}?token={key}"
            book.log.info(f"asked {url}")
            book.log.info("asked {url}", url=url, urls=[url])
            try:
                raise RuntimeError(f"no route to {url}")
            except RuntimeError:
                book.log.failure("no {url}", url=url)
            self.assertNotIn(key, book.text)

        run_property(check)


class JsonTests(SynchronousTestCase):
    def test_fields(self) -> None:
        """Time in UTC, level, text, who said it, and the fields of the event."""
        book = Book(log_format="json")
        values = {"network": "net", "count": 3, "share": 0.5, "on": True, "none": None, "many": (1, "b")}
        event = {"log_time": 1_764_000_000.25, "log_level": TwistedLevel.warn, "log_namespace": "evmlb.x"}
        book.observer({**event, "log_format": "{network} has {count}", "log_key": "k", **values})
        head = {"time": "2025-11-24T16:00:00.250Z", "level": "WARNING", "text": "net has 3", "logger": "evmlb.x"}
        self.assertEqual(book.objects, [{**head, **values, "many": [1, "b"]}])

    def test_values_of_every_kind(self) -> None:
        """Large numbers, enumerations and objects become text; our own names cannot be taken."""
        book = Book(log_format="json")
        book.log.info("x", big=2**256, role=Role.LOCAL, thing=b"\xff", nan=float("nan"), time="forged", text="forged")
        (line,) = book.objects
        self.assertEqual((line["big"], line["role"], line["nan"]), (str(2**256), "local", None))
        self.assertEqual(line["text"], "x")
        self.assertNotEqual(line["time"], "forged")
        self.assertIn("xff", line["thing"])

    def test_objects_that_fail(self) -> None:
        """An object that cannot say what it is spoils nothing."""

        class Bad:
            def __str__(self) -> str:
                raise RuntimeError

            __repr__ = __str__

        book = Book(log_format="json")
        book.log.info("x", bad=Bad())
        self.assertIn("Bad", book.objects[0]["bad"])

    def test_traceback(self) -> None:
        """A traceback is one field."""
        book = Book(log_format="json")
        try:
            raise ValueError("oh")
        except ValueError:
            book.log.failure("it went wrong")
        (line,) = book.objects
        self.assertEqual(line["text"], "it went wrong")
        self.assertTrue(line["traceback"].startswith("Traceback"))
        self.assertTrue(line["traceback"].endswith("ValueError: oh"))


class SuppressionTests(SynchronousTestCase):
    def test_one_per_window(self) -> None:
        """Of one key one line is written per time; the next says how many there were."""
        book = Book()
        for number in range(5):
            book.log.info("line {number}", number=number, log_key="k")
            book.now += 1
        book.log.info("other", log_key="other")
        self.assertEqual(book.lines, ["INFO line 0", "INFO other"])
        book.now = 10.0
        book.log.info("line 5", log_key="k")
        self.assertEqual(book.lines[2:], ["INFO line 5 (4 more like this suppressed)"])

    def test_the_last_is_written_when_nothing_follows(self) -> None:
        """When the time is over the last line held back is written, though nothing else happens."""
        book = Book()
        for word in ("down", "up", "down", "up"):
            book.log.info("{word}", word=word, log_key="k")
        book.now = 9.9
        book.observer.sweep()
        self.assertEqual(book.lines, ["INFO down"])
        book.now = 10.0
        book.observer.sweep()
        book.observer.sweep()
        self.assertEqual(book.lines[1:], ["INFO up (2 more like this suppressed)"])

    def test_held_lines_come_with_other_lines(self) -> None:
        """Any later event brings what was held back long enough, before itself."""
        book = Book()
        book.log.info("a", log_key="k")
        book.log.info("b", log_key="k")
        book.now = 11.0
        book.log.info("c", log_key="other")
        self.assertEqual(book.lines, ["INFO a", "INFO b", "INFO c"])

    def test_flush(self) -> None:
        """At the end nothing is lost."""
        book = Book()
        book.log.info("a", log_key="k")
        book.log.info("b", log_key="k")
        book.observer.flush()
        book.observer.flush()
        self.assertEqual(book.lines, ["INFO a", "INFO b"])

    def test_graver_lines_do_not_wait(self) -> None:
        """A line that is graver than the one that opened the window is written at once."""
        book = Book()
        book.log.info("a serves", log_key="k")
        book.log.error("nobody serves", log_key="k")
        book.log.info("a serves", log_key="k")
        self.assertEqual(book.lines, ["INFO a serves", "ERROR nobody serves"])

    def test_no_key(self) -> None:
        """Lines without a key are all written."""
        book = Book()
        for _ in range(3):
            book.log.info("a")
        self.assertEqual(len(book.lines), 3)

    def test_no_limit(self) -> None:
        """A limit of 0 s limits nothing."""
        book = Book(log_rate_limit_seconds=0.0)
        for _ in range(3):
            book.log.info("a", log_key="k")
        self.assertEqual(len(book.lines), 3)

    def test_alike_failures(self) -> None:
        """A failure that every request meets is written once per time; another one is not held back by it."""
        book = Book(log_format="json")

        def fail(error: Exception) -> None:
            try:
                raise error
            except Exception:
                book.log.failure("while serving")

        for _ in range(50):
            fail(ValueError("a"))
        fail(KeyError("b"))
        kinds = [line["traceback"].split("\n")[-1].split(":")[0] for line in book.objects]
        self.assertEqual(kinds, ["builtins.ValueError", "builtins.KeyError"])
        book.now = 10.0
        book.observer.sweep()
        self.assertEqual(book.objects[-1]["suppressed"], 48)

    def test_json_says_how_many(self) -> None:
        """In JSON the number is a field."""
        book = Book(log_format="json")
        for _ in range(4):
            book.log.info("a", log_key="k")
        book.observer.flush()
        self.assertEqual([line.get("suppressed") for line in book.objects], [None, 2])


OFFERS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2), st.floats(0, 15, width=16)), max_size=60
)


class RateLimitTests(SynchronousTestCase):
    def test_nothing_is_lost_and_the_last_word_is_the_last(self) -> None:
        """All items are written or counted; per state the last written is the last that came, in the order of time."""

        @settings(max_examples=300, deadline=None)
        @given(OFFERS, st.sampled_from((3, 1000)))
        def check(offers: list[tuple[int, int, int, float]], max_keys: int) -> None:
            limit: RateLimit[tuple[int, int]] = RateLimit(10.0, max_keys)
            written: list[tuple[tuple[int, int], int]] = []
            now = 0.0
            for number, (kind, state, rank, pause) in enumerate(offers):
                now += pause
                new = limit.offer((state, number), (state, kind), state, rank, now)
                written += [*limit.due(now), *new]
            written += limit.flush()
            self.assertEqual(len(written) + sum(suppressed for _, suppressed in written), len(offers))
            for state in (0, 1):
                numbers = [number for (of, number), _ in written if of == state]
                self.assertEqual(numbers, sorted(numbers))
                came = [number for number, (_, of, _, _) in enumerate(offers) if of == state]
                self.assertEqual(numbers[-1:], came[-1:])

        run_property(check)

    def test_not_more_than_one_per_window(self) -> None:
        """Of one key and rank no two are written within the time."""

        @settings(max_examples=200, deadline=None)
        @given(st.lists(st.floats(0, 12, width=16), max_size=40))
        def check(pauses: list[float]) -> None:
            limit: RateLimit[float] = RateLimit(10.0)
            now, at = 0.0, []
            for pause in pauses:
                now += pause
                at += [now for _ in (*limit.offer(now, "k", "k", 0, now), *limit.due(now))]
            self.assertTrue(all(b - a >= 10 for a, b in pairwise(at)), at)

        run_property(check)

    def test_bounded(self) -> None:
        """However many keys there are, only so many are remembered."""
        limit: RateLimit[int] = RateLimit(10.0, max_keys=50)
        for number in range(1000):
            limit.offer(number, number, number, 0, 0.0)
            limit.offer(number, number, number, 0, 0.0)
        self.assertLessEqual(len(limit._windows), 50)
        self.assertLessEqual(len(limit._held), 50)


class EventLogTests(SynchronousTestCase):
    def tell(self, *events: Event, **settings: Any) -> Book:
        book = Book(**settings)
        EventLog(book.log).observe(events)
        return book

    def test_a_line_for_each(self) -> None:
        """Every event has its words and its level."""
        ids: dict[str, Any] = {"network": "net", "node": "a"}
        cases: list[tuple[Event, str]] = [
            (NodeWentDown(**ids, reason="polls fail: x"), "WARNING net: node a is out: polls fail: x"),
            (NodeCameUp(**ids, reason="answers polls"), "INFO net: node a is in: answers polls"),
            (NodeBecameSuspect(**ids, reason="x"), "DEBUG net: node a is asked last for now: x"),
            (
                NodeFellBehind(**ids, lag_blocks=9, limit_blocks=5),
                "WARNING net: node a fell behind: 9 blocks behind (limit 5)",
            ),
            (NodeCaughtUp(**ids, lag_blocks=1), "INFO net: node a caught up: 1 block behind"),
            (
                NodeHeadDoubted(**ids, number=99, chainhead=10),
                "WARNING net: node a reports block 99 where 10 is known, more than time allows: "
                "it does not count until it is confirmed",
            ),
            (
                NodeOnWrongChain(**ids, chain_id=5, expected=1),
                "ERROR net: node a is out: it serves chain 5 instead of 1",
            ),
            (
                NodeHeadDoubted(**ids, number=99, chainhead=None),
                "WARNING net: node a reports block 99 where none is known, more than time allows: "
                "it does not count until it is confirmed",
            ),
            (NodeStaysDown(**ids, reason="y"), "WARNING net: node a is still out: y"),
            (
                NodeRateLimited(**ids, told=True, seconds=29.6, words="HTTP 429"),
                "WARNING net: node a says that it is asked too often (HTTP 429): held off for 30 s, as it said",
            ),
            (
                NodeRateLimited(**ids, told=False, seconds=1.0),
                "WARNING net: node a says that it is asked too often: held off for 1 s, then it is tried",
            ),
            (NodeLimitLifted(**ids), "INFO net: node a takes requests again"),
            (
                NodeOnWrongChain(**ids, chain_id=5, expected=None),
                "ERROR net: node a is out: it serves chain 5 instead of another",
            ),
            (
                NodeTimeAhead(**ids, seconds=61.4),
                "WARNING net: node a shows a block that is 61 s ahead of this machine's clock: one of the two is off",
            ),
            (ChainheadMoved(network="net", number=6, previous=5), "DEBUG net: the chainhead is 6"),
            (ChainheadMoved(network="net", number=5, previous=6), "WARNING net: the chainhead came down from 6 to 5"),
            (
                ChainheadMoved(network="net", number=None, previous=6),
                "WARNING net: the chainhead is lost, no node's head counts (it was 6)",
            ),
            (
                ChainIdDisputed(network="net", chain_ids=(1, 5)),
                "ERROR net: refused, its nodes do not agree on the chain id (1, 5), and chain_id is not configured",
            ),
            (
                OrderChanged(network="net", tier=Role.LOCAL, nodes=("a", "b"), reason="best: 1 ms"),
                "INFO net: local nodes serve, first first: a, b (best: 1 ms)",
            ),
            (
                OrderChanged(network="net", tier=Role.LOCAL, nodes=("b", "a"), reason="best: 1 ms", reordered=True),
                "DEBUG net: local nodes serve in another sequence: b, a (best: 1 ms)",
            ),
            (
                OrderChanged(network="net", tier=Role.LOCAL, nodes=("a",), reason="nearest", degraded=True),
                "WARNING net: no node is in range, the nearest serve: a (nearest)",
            ),
            (
                OrderChanged(network="net", tier=None, nodes=(), reason="no local node is reachable"),
                "ERROR net: nobody serves: no local node is reachable",
            ),
        ]
        for event, line in cases:
            self.assertEqual(self.tell(event).lines, [line])
        told = Counter(type(event) for event, _ in cases)
        self.assertEqual(set(told), set(Event.__args__))

    def test_fields(self) -> None:
        """In JSON network, node and the event's name are fields."""
        (line,) = self.tell(NodeWentDown(network="net", node="a", reason="r"), log_format="json").objects
        self.assertEqual((line["network"], line["node"], line["event"]), ("net", "a", "NodeWentDown"))
        (line,) = self.tell(
            OrderChanged(network="net", tier=Role.LOCAL, nodes=("a",), reason="r"), log_format="json"
        ).objects
        self.assertEqual((line["tier"], line["nodes"]), ("local", ["a"]))
        self.assertNotIn("node", line)

    def test_flapping(self) -> None:
        """A node that flaps fills no log, and the last line says what it is now."""
        down = NodeWentDown(network="net", node="a", reason="r")
        up = NodeCameUp(network="net", node="a", reason="r")
        book = self.tell(*[down, up] * 10, down)
        book.now = 10.0
        book.observer.sweep()
        self.assertEqual(
            book.lines,
            [
                "WARNING net: node a is out: r",
                "INFO net: node a is in: r",
                "WARNING net: node a is out: r (18 more like this suppressed)",
            ],
        )

    def test_who_serves_at_once(self) -> None:
        """A sequence that flips does not hold back that other nodes serve now; the same nodes again are held back."""
        flips = [
            OrderChanged(network="net", tier=Role.LOCAL, nodes=nodes, reason="r", reordered=True)
            for nodes in (("a", "b"), ("b", "a")) * 5
        ]
        fewer = OrderChanged(network="net", tier=Role.LOCAL, nodes=("b",), reason="r")
        nobody = OrderChanged(network="net", tier=None, nodes=(), reason="a HTTP 500; b silent")
        book = self.tell(*flips, fewer, *flips, nobody, fewer, log_level=LogLevel.INFO)
        self.assertEqual(
            book.lines,
            ["INFO net: local nodes serve, first first: b (r)", "ERROR net: nobody serves: a HTTP 500; b silent"],
        )
        book.now = 10.0
        book.observer.sweep()
        self.assertEqual(book.lines[-1], "INFO net: local nodes serve, first first: b (r)")

    def test_nodes_do_not_silence_each_other(self) -> None:
        """The limit is per network, node and kind."""
        book = self.tell(*(NodeWentDown(network=n, node=x, reason="r") for n in ("n", "m") for x in ("a", "b")))
        self.assertEqual(len(book.lines), 4)

    def test_unknown_event(self) -> None:
        """An event that has no words yet is a line all the same."""

        @dataclass(frozen=True)
        class NodeSneezed:
            network: str = "net"
            node: str = "a"

        self.assertEqual(self.tell(NodeSneezed()).lines, ["INFO net: NodeSneezed"])  # type: ignore[arg-type]

    def test_own_logger(self) -> None:
        """Without a logger there is one."""
        self.assertIsNotNone(EventLog())


class InstallTests(SynchronousTestCase):
    """How it comes under twistd and twist; their options are mappings."""

    def setUp(self) -> None:
        observers = list(_installation.observers)
        self.addCleanup(_installation.observers.__setitem__, slice(None), observers)
        self.patch(sys, "stderr", io.StringIO())

    def say(self, observer: LogObserver) -> None:
        observer({"log_time": 0.0, "log_level": TwistedLevel.info, "log_format": "said"})

    def test_twistd(self) -> None:
        """In front, twistd is told of our observer, which writes to stderr."""
        host: dict[str, Any] = {"logger": None, "logfile": None, "nodaemon": 1, "syslog": 0}
        install(config(), host)
        self.assertEqual(host["logger"], "evmlb.logs.installed")
        self.say(installed())
        self.assertRegex(sys.stderr.getvalue(), r"\[INFO\] said\n$")

    def test_twistd_to_stdout(self) -> None:
        """``--logfile=-`` is stdout, as twistd has it; a daemon has none."""
        install(config(), {"logger": None, "logfile": "-", "nodaemon": 1})
        self.patch(sys, "stdout", io.StringIO())
        self.say(installed())
        self.assertRegex(sys.stdout.getvalue(), r"\[INFO\] said\n$")
        install(config(), {"logger": None, "logfile": "-", "nodaemon": 0})
        self.assertRaises(SystemExit, installed)

    def test_twistd_to_a_file(self) -> None:
        """A file is twistd's kind of file, which SIGUSR1 begins anew."""
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        path = self.mktemp()
        install(config(), {"logger": None, "logfile": path, "nodaemon": 1})
        observer = installed()
        self.addCleanup(observer.file.close)
        self.say(observer)
        signal.raise_signal(signal.SIGUSR1)
        self.say(observer)
        for name in (path, f"{path}.1"):
            with open(name) as file:
                self.assertEqual(file.read().count("said"), 1)

    def test_what_the_host_was_told(self) -> None:
        """A ``--logger`` or ``--syslog`` that was given stays."""
        for given_option in ({"logger": "mine", "syslog": 0}, {"logger": None, "syslog": 1}):
            host = dict(given_option)
            install(config(), host)
            self.assertEqual(host, given_option)

    def test_twist(self) -> None:
        """Twist gets our factory, on stderr instead of its default, and leaves the level to the configuration."""
        host: dict[str, Any] = {
            "fileLogObserverFactory": jsonFileLogObserver,
            "logFile": sys.stdout,
            "logLevel": TwistedLevel.info,
        }
        install(config(), host)
        self.assertIs(host["logFile"], sys.stderr)
        self.assertIs(host["logLevel"], TwistedLevel.debug)
        self.say(host["fileLogObserverFactory"](host["logFile"]))
        self.assertRegex(sys.stderr.getvalue(), r"\[INFO\] said\n$")

    def test_twist_with_options(self) -> None:
        """A file and a level that were given stay."""
        file = io.StringIO()
        host: dict[str, Any] = {
            "fileLogObserverFactory": textFileLogObserver,
            "logFile": file,
            "logLevel": TwistedLevel.error,
        }
        install(config(), host)
        self.assertIs(host["logFile"], file)
        self.assertIs(host["logLevel"], TwistedLevel.error)

    def test_without_a_host(self) -> None:
        """Run by nobody but ourselves, the logging begins at once, on stderr, and takes nothing else over."""
        begun: list[Any] = []
        self.patch(
            hosts.globalLogBeginner, "beginLoggingTo", lambda observers, **options: begun.append((observers, options))
        )
        install(config())
        ((observers, options),) = begun
        self.assertEqual(options, {"redirectStandardIO": False})
        self.say(*observers)
        self.assertRegex(sys.stderr.getvalue(), r"\[INFO\] said\n$")

    def test_sweep(self) -> None:
        """The sweep reaches every observer that was made."""
        swept: list[str] = []
        self.patch(LogObserver, "sweep", lambda _self: swept.append("swept"))
        install(config(), {"logger": None})
        installed()
        before = len(_installation.observers)
        logs.sweep()
        self.assertEqual(len(swept), before)
