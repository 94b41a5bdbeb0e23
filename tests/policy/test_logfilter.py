"""Logs, filters, and many filters at once."""

from __future__ import annotations

import json
from typing import Any

from Crypto.Hash import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.logfilter import InvalidFilter, Log, LogFilter, read_filter, read_logs, removed, union
from evmlb.policy.logindex import LogIndex
from tests.support import run_property


def address(n: int) -> bytes:
    return n.to_bytes(20, "big")


def topic(n: int) -> bytes:
    return n.to_bytes(32, "big")


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def log(who: int, *topics: int, index: int = 0) -> Log:
    return Log(address(who), tuple(map(topic, topics)), hexed(topic(99)), index, b"{}")


def geth_log(**members: Any) -> dict[str, Any]:
    return {
        "address": "0xdAC17F958D2ee523a2206206994597C13D831ec7",
        "topics": ["0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef", hexed(topic(7))],
        "data": "0x" + "00" * 32,
        "blockNumber": "0x10",
        "transactionHash": hexed(topic(5)),
        "transactionIndex": "0x1",
        "blockHash": "0x" + "AB" * 32,
        "blockTimestamp": "0x67ee5b57",
        "logIndex": "0x1f",
        "removed": False,
    } | members


# -- the reference: geth's rule and the Yellow Paper's bloom, each in the plainest words


def reference_matches(asked: dict[str, Any], one: Log) -> bool:
    wanted = asked.get("address")
    addresses = [wanted] if isinstance(wanted, str) else wanted or []
    if addresses and hexed(one.address) not in addresses:
        return False
    topics = asked.get("topics") or []
    if len(topics) > len(one.topics):
        return False
    for place, choice in enumerate(topics):
        choices = [choice] if isinstance(choice, str) else choice or [None]
        if None not in choices and hexed(one.topics[place]) not in choices:
            return False
    return True


def reference_bloom(logs: list[Log]) -> bytes:
    bits = ["0"] * 2048
    for one in logs:
        for item in (one.address, *one.topics):
            digest = keccak.new(digest_bits=256, data=item).hexdigest()
            for pair in (digest[0:4], digest[4:8], digest[8:12]):
                bits[2047 - int(pair, 16) % 2048] = "1"
    return int("".join(bits), 2).to_bytes(256, "big")


ADDRESSES = [hexed(address(n)) for n in range(4)]
TOPICS = [hexed(topic(n)) for n in range(4)]
choices = st.none() | st.sampled_from(TOPICS) | st.lists(st.none() | st.sampled_from(TOPICS), max_size=3)
asked = st.fixed_dictionaries(
    {},
    optional={
        "address": st.none() | st.sampled_from(ADDRESSES) | st.lists(st.sampled_from(ADDRESSES), max_size=3),
        "topics": st.none() | st.lists(choices, max_size=4),
    },
)
logs_of = st.lists(
    st.builds(lambda who, topics: log(who, *topics), st.integers(0, 3), st.lists(st.integers(0, 3), max_size=4)),
    max_size=12,
)


class LogTests(SynchronousTestCase):
    def test_read(self) -> None:
        """Logs are read in their order, each with its own bytes."""
        first, second = json.dumps(geth_log()).encode(), json.dumps(geth_log(logIndex="0x20", topics=[])).encode()
        logs = read_logs(b"[" + first + b" , " + second + b"]")
        assert logs is not None
        self.assertEqual([one.raw for one in logs], [first, second])
        self.assertEqual(logs[0].address, bytes.fromhex("dac17f958d2ee523a2206206994597c13d831ec7"))
        self.assertEqual([len(one.topics) for one in logs], [2, 0])
        self.assertEqual([one.index for one in logs], [31, 32])
        self.assertEqual(logs[0].block_hash, "0x" + "ab" * 32)
        self.assertEqual(list(logs[0].items()), [logs[0].address, *logs[0].topics])

    def test_none(self) -> None:
        """A block without logs has none."""
        self.assertEqual(read_logs(b"[]"), ())

    def test_refused(self) -> None:
        """What is no list of logs is refused whole."""
        wrong: list[dict[str, Any]] = [
            {"address": "0x12"},
            {"address": None},
            {"topics": None},
            {"topics": [TOPICS[0]] * 5},
            {"topics": ["0x12"]},
            {"topics": [7]},
            {"logIndex": None},
            {"logIndex": "x"},
            {"blockHash": None},
        ]
        for members in wrong:
            self.assertIsNone(read_logs(json.dumps([geth_log(), geth_log(**members)]).encode()), members)
        for body in (b"null", b"{}", b"[1]", b"[", b"", b'["x"]', b"[" * 100_000, b'[{"address":"\xff"}]'):
            self.assertIsNone(read_logs(body))
        without = {name: value for name, value in geth_log().items() if name != "topics"}
        self.assertIsNone(read_logs(json.dumps([without]).encode()))

    def test_utf8(self) -> None:
        """Bytes that are no UTF-8, anywhere, are refused: they would cost a client its connection."""
        body = json.dumps([geth_log(other="?")]).encode()
        self.assertIsNotNone(read_logs(body.replace(b"?", "é".encode())))
        self.assertIsNone(read_logs(body.replace(b"?", b"\xff")))

    def test_removed(self) -> None:
        """A log taken back is the same but for one member; a log without it gets it."""
        raw = b'{"data":"0x", "odd": 1.50,"removed":false,"logIndex":"0x1"}'
        self.assertEqual(removed(raw), b'{"data":"0x","odd":1.50,"removed":true,"logIndex":"0x1"}')
        self.assertEqual(removed(b'{"data":"0x"}'), b'{"data":"0x","removed":true}')


class FilterTests(SynchronousTestCase):
    def refuse(self, value: object, words: str) -> None:
        error = self.assertRaises(InvalidFilter, read_filter, value)
        self.assertIn(words, str(error))

    def test_any(self) -> None:
        """Nothing said is everything."""
        for value in (None, {}, {"address": None, "topics": None}, {"address": [], "topics": []}):
            self.assertEqual(read_filter(value), LogFilter(None, ()))

    def test_canonical(self) -> None:
        """Filters that say the same are the same, in whatever way they say it."""
        one = read_filter({"address": ADDRESSES[1], "topics": [TOPICS[1], None, [TOPICS[2], TOPICS[3]]]})
        other = read_filter(
            {
                "topics": [[TOPICS[1], TOPICS[1]], [], [TOPICS[3], TOPICS[2].replace("0x", "0X")]],
                "address": [ADDRESSES[1], ADDRESSES[1]],
                "fromBlock": "latest",
            }
        )
        self.assertEqual((one, hash(one)), (other, hash(other)))
        self.assertNotEqual(one, read_filter({"address": ADDRESSES[1]}))

    def test_null_among_topics(self) -> None:
        """A null in a list is any."""
        self.assertEqual(read_filter({"topics": [[TOPICS[1], None]]}).topics, (None,))

    def test_positions(self) -> None:
        """A position that says any still needs a topic there."""
        self.assertFalse(read_filter({"topics": [None]}).matches(log(1)))
        self.assertTrue(read_filter({"topics": [None]}).matches(log(1, 2)))
        self.assertTrue(read_filter({"topics": []}).matches(log(1)))

    def test_invalid(self) -> None:
        """What is no filter is refused with words."""
        self.refuse([], "not an object")
        self.refuse("0x", "not an object")
        self.refuse({"address": 5}, "neither a string nor a list")
        self.refuse({"address": {}}, "neither a string nor a list")
        self.refuse({"address": "0x12"}, "address has 1 bytes, not 20")
        self.refuse({"address": ADDRESSES[0][:-1]}, "hex digits")
        self.refuse({"address": ADDRESSES[0][2:]}, "hex digits")
        self.refuse({"address": [ADDRESSES[0], None]}, "hex digits")
        self.refuse({"topics": TOPICS[0]}, "not a list")
        self.refuse({"topics": [5]}, "neither a string, nor a list, nor null")
        self.refuse({"topics": [[["x"]]]}, "hex digits")
        self.refuse({"topics": [ADDRESSES[0]]}, "topic has 20 bytes, not 32")
        self.refuse({"Address": ADDRESSES[0]}, "did you mean 'address'")
        self.refuse({"TOPICS": []}, "did you mean 'topics'")

    def test_limits(self) -> None:
        """Each list has its limit, and takes as many as that."""
        addresses = [hexed(address(n)) for n in range(1001)]
        topics = [hexed(topic(n)) for n in range(1001)]
        self.refuse({"topics": [None] * 5}, "more than 4 topics")
        self.refuse({"address": addresses}, "more than 1000 addresses")
        self.refuse({"topics": [topics]}, "more than 1000 topics at one position")
        largest = read_filter({"address": addresses[:1000], "topics": [topics[:1000]] * 4})
        self.assertEqual([len(choice or ()) for choice in largest.choices()], [1000] * 5)

    def test_matches(self) -> None:
        """It matches as geth's rule has it."""

        @given(asked, logs_of)
        @settings(max_examples=300)
        def check(asked: dict[str, Any], logs: list[Log]) -> None:
            log_filter = read_filter(asked)
            for one in logs:
                self.assertEqual(log_filter.matches(one), reference_matches(asked, one))

        run_property(check)


class BloomTests(SynchronousTestCase):
    def test_never_misses(self) -> None:
        """A block that has a matching log is never ruled out by its bloom."""

        @given(asked, logs_of)
        def check(asked: dict[str, Any], logs: list[Log]) -> None:
            log_filter = read_filter(asked)
            if any(map(log_filter.matches, logs)):
                self.assertTrue(log_filter.may_match(reference_bloom(logs)))

        run_property(check)

    def test_rules_out(self) -> None:
        """One that has neither the address nor the topic is, and by either of them."""
        bloom = reference_bloom([log(1, 2)])
        self.assertTrue(read_filter({"address": ADDRESSES[1], "topics": [TOPICS[2]]}).may_match(bloom))
        for asked in ({"address": ADDRESSES[2]}, {"topics": [None, TOPICS[3]]}, {"address": ADDRESSES[2:]}):
            self.assertFalse(read_filter(asked).may_match(bloom), asked)
        self.assertFalse(read_filter({"address": ADDRESSES[1], "topics": [TOPICS[3]]}).may_match(bloom))

    def test_nothing_to_go_by(self) -> None:
        """Without a bloom, without values, and with very many values nothing is ruled out."""
        one, many = read_filter({"address": ADDRESSES[1]}), LogFilter(frozenset(map(address, range(101))))
        self.assertTrue(one.may_match(b""))
        self.assertTrue(LogFilter().may_match(bytes(256)))
        self.assertTrue(many.may_match(bytes(256)))
        self.assertFalse(one.may_match(bytes(256)))


class UnionTests(SynchronousTestCase):
    def test_covers(self) -> None:
        """The union gives every log that one of the filters wants, and is a filter itself."""

        @given(st.lists(asked, min_size=1, max_size=4), logs_of)
        def check(several: list[dict[str, Any]], logs: list[Log]) -> None:
            filters = list(map(read_filter, several))
            together = union(filters)
            for one in logs:
                if any(log_filter.matches(one) for log_filter in filters):
                    self.assertTrue(reference_matches(together, one), (together, one))
            read_filter(together)

        run_property(check)

    def test_narrow(self) -> None:
        """It is restricted where all filters are, and says nothing where one is not."""
        one = read_filter({"address": ADDRESSES[1], "topics": [TOPICS[1], None, TOPICS[2]]})
        other = read_filter({"address": [ADDRESSES[0]], "topics": [TOPICS[2], TOPICS[1], TOPICS[2]]})
        addresses = ADDRESSES[:2]
        self.assertEqual(union([one]), {"address": [ADDRESSES[1]], "topics": [[TOPICS[1]], None, [TOPICS[2]]]})
        self.assertEqual(union([one, other]), {"address": addresses, "topics": [TOPICS[1:3], None, [TOPICS[2]]]})
        short = read_filter({"address": ADDRESSES[1], "topics": [TOPICS[1]]})
        self.assertEqual(union([one, short]), {"address": [ADDRESSES[1]], "topics": [[TOPICS[1]]]})
        self.assertEqual(union([one, LogFilter()]), {})
        self.assertEqual(union([one, read_filter({"topics": [TOPICS[3]]})]), {"topics": [[TOPICS[1], TOPICS[3]]]})
        self.assertEqual(union([read_filter({"topics": [None, None]})]), {})

    def test_too_many(self) -> None:
        """More addresses than nodes take are not named."""
        several = [LogFilter(frozenset(map(address, range(n, n + 600))), (frozenset((topic(1),)),)) for n in (0, 600)]
        self.assertEqual(union(several), {"topics": [[TOPICS[1]]]})


class IndexTests(SynchronousTestCase):
    def test_finds(self) -> None:
        """It finds for each distinct filter what the filter itself finds, in order, while filters come and go."""

        @given(st.lists(st.tuples(st.integers(0, 5), st.none() | asked), max_size=15), logs_of)
        @settings(max_examples=300)
        def check(steps: list[tuple[int, dict[str, Any] | None]], logs: list[Log]) -> None:
            index: LogIndex[int] = LogIndex()
            of_key: dict[int, LogFilter] = {}
            for key, what in steps:
                if what is None:
                    index.remove(key)
                    of_key.pop(key, None)
                else:
                    of_key[key] = read_filter(what)
                    index.add(of_key[key], key)
            self.assertEqual(set(index.filters), set(of_key.values()))
            self.assertEqual(len(index), len(set(of_key.values())))
            found = {one.filter: (set(one.keys), list(one.logs)) for one in index.find(logs)}
            expected = {}
            for log_filter in of_key.values():
                keys = {key for key, other in of_key.items() if other == log_filter}
                matching = [one for one in logs if log_filter.matches(one)]
                if matching:
                    expected[log_filter] = (keys, matching)
            self.assertEqual(found, expected)

        run_property(check)

    def test_once(self) -> None:
        """Subscribers of equal filters share what is found."""
        index: LogIndex[str] = LogIndex()
        for key in ("a", "b"):
            index.add(read_filter({"address": ADDRESSES[:3]}), key)
        index.add(read_filter({"topics": [None]}), "c")
        one, other = log(1), log(2, 3)
        found = [(found.keys, found.logs) for found in index.find([one, other])]
        self.assertEqual(sorted(found), [(("a", "b"), (one, other)), (("c",), (other,))])

    def test_gone(self) -> None:
        """A filter is gone with the last that asked for it; a key that never asked is passed over."""
        index: LogIndex[str] = LogIndex()
        for key in ("a", "b"):
            index.add(read_filter({"address": ADDRESSES[1]}), key)
        index.remove("a")
        self.assertEqual([found.keys for found in index.find([log(1)])], [("b",)])
        index.remove("b")
        index.remove("b")
        self.assertEqual((len(index), index.find([log(1)])), (0, []))

    def test_wanted(self) -> None:
        """The filters that a bloom does not rule out; all of them, without one."""
        index: LogIndex[int] = LogIndex()
        filters = [read_filter({"address": ADDRESSES[n]}) for n in range(3)]
        for n, log_filter in enumerate(filters):
            index.add(log_filter, n)
        self.assertEqual(index.wanted(reference_bloom([log(1)])), (filters[1],))
        self.assertEqual(index.wanted(b""), tuple(filters))

    def test_few_comparisons(self) -> None:
        """2,000 holders of one token, or one holder of 2,000: a log is compared with what its own side files only."""
        compared = 0

        class Counted(LogFilter):
            def matches(self, log: Log) -> bool:
                nonlocal compared
                compared += 1
                return super().matches(log)

        index: LogIndex[int] = LogIndex()
        event = frozenset((topic(1),))
        for n in range(2000):
            index.add(Counted(frozenset((address(1),)), (event, None, frozenset((topic(n),)))), n)
            index.add(Counted(frozenset((address(n + 10),)), (event, None, frozenset((topic(5000),)))), n + 2000)
        self.assertEqual(len(index.find([log(1, 1, 5, n) for n in range(0, 4000, 4)])), 500)
        self.assertEqual(len(index.find([log(n, 1, 5, 5000) for n in range(10, 4010, 4)])), 500)
        self.assertLess(compared, 3000)
