"""In what order the nodes of a tier are asked."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Criterion, NetworkConfig, Role, Strategy
from evmlb.policy.ranking import Candidate, Paths, criteria_of, leading_ties, rank
from tests.support import network_config, run_property

HEAD, LATENCY, LOAD = Criterion.CHAINHEAD, Criterion.LATENCY, Criterion.LOAD


def priority(*criteria: Criterion, **more: Any) -> NetworkConfig:
    return network_config(load_balance_priority=criteria, **more)


def tier(*figures: dict[str, Any], role: Role = Role.LOCAL) -> list[Candidate]:
    return [Candidate(index=i, name="abcdefgh"[i], role=role, **f) for i, f in enumerate(figures)]


def latencies(*milliseconds: float) -> list[Candidate]:
    return tier(*({"latency_seconds": ms / 1000} for ms in milliseconds))


def order(nodes: list[Candidate], config: NetworkConfig, last: Paths | None = None) -> str:
    """The names in order; those that tie with the first stand before the bar."""
    ranked = rank(nodes, config, last or {})
    names = "".join(r.candidate.name for r in ranked)
    ties = leading_ties(ranked)
    return f"{names[:ties]}|{names[ties:]}"


def paths(nodes: list[Candidate], config: NetworkConfig, last: Paths | None = None) -> Paths:
    return {r.candidate.index: r.path for r in rank(nodes, config, last or {})}


class CriteriaTests(SynchronousTestCase):
    def test_chainhead_last(self) -> None:
        """Chainhead comes last where the list does not name it."""
        self.assertEqual(criteria_of(priority(LOAD, LATENCY), Role.LOCAL), (LOAD, LATENCY, HEAD))

    def test_as_written(self) -> None:
        """The list applies as written, doubles left out."""
        self.assertEqual(criteria_of(priority(HEAD, LOAD, HEAD), Role.MONITORING), (HEAD, LOAD))

    def test_fallback(self) -> None:
        """Among fallback nodes chainhead is first, wherever the list has it."""
        self.assertEqual(criteria_of(priority(LATENCY, HEAD, LOAD), Role.FALLBACK), (HEAD, LATENCY, LOAD))


class ToleranceTests(SynchronousTestCase):
    def test_latency(self) -> None:
        """Latencies within 2 ms, or within 20 % of the best, tie."""
        self.assertEqual(order(latencies(3, 5, 5.1), priority(LATENCY)), "ab|c")
        self.assertEqual(order(latencies(100, 119, 121), priority(LATENCY)), "ab|c")

    def test_best_not_first(self) -> None:
        """Tolerance is measured from the best, and what ties stays as configured."""
        self.assertEqual(order(latencies(4.9, 3, 6), priority(LATENCY)), "ab|c")

    def test_load(self) -> None:
        """Loads within 0.1 tie, and an unknown load comes last."""
        nodes = tier({"load": None}, {"load": 0.55}, {"load": 0.45}, {"load": 0.6})
        self.assertEqual(order(nodes, priority(LOAD)), "bc|da")

    def test_unknown_loads(self) -> None:
        """Where no load is known all tie."""
        self.assertEqual(order(tier({}, {}), priority(LOAD)), "ab|")

    def test_chainhead(self) -> None:
        """One block behind the best ties, two do not."""
        nodes = tier({"behind_blocks": 2}, {"behind_blocks": 1}, {"behind_blocks": 0})
        self.assertEqual(order(nodes, priority(HEAD)), "bc|a")

    def test_next_criterion(self) -> None:
        """The next criterion decides among those whom the first one leaves equal, and only there."""
        nodes = tier(
            {"latency_seconds": 0.0049, "load": 0.5},
            {"latency_seconds": 0.003, "load": 0.9},
            {"latency_seconds": 0.050, "load": 0.1},
        )
        self.assertEqual(order(nodes, priority(LATENCY, LOAD)), "a|bc")
        self.assertEqual(order(nodes, priority(LOAD, LATENCY)), "c|ab")


class HysteresisTests(SynchronousTestCase):
    config = priority(LATENCY)

    def test_stays(self) -> None:
        """A node of the leading group stays up to 1.5 tolerances from the best, a newcomer needs to be within one."""
        last = paths(latencies(10, 11, 30), self.config)
        self.assertEqual(order(latencies(10, 12.9, 12.9), self.config, last), "ab|c")
        self.assertEqual(order(latencies(10, 13.1, 30), self.config, last), "a|bc")

    def test_first_of_ties_stays(self) -> None:
        """The node that gets the traffic keeps it while it ties."""
        last = paths(latencies(10, 10), self.config)
        self.assertEqual(order(latencies(12.9, 10), self.config, last), "ab|")
        self.assertEqual(order(latencies(13.1, 10), self.config, last), "b|a")

    def test_comes_back(self) -> None:
        """A node that has left the group needs to be within one tolerance again."""
        last = paths(latencies(13.1, 10), self.config, paths(latencies(10, 10), self.config))
        self.assertEqual(order(latencies(12.5, 10), self.config, last), "b|a")
        self.assertEqual(order(latencies(11.9, 10), self.config, last), "ab|")

    def test_every_criterion(self) -> None:
        """Each criterion has its own memory."""
        config = priority(HEAD, LATENCY)
        apart = [{"latency_seconds": 0.010}, {"latency_seconds": 0.0129}]
        last = paths(tier({"latency_seconds": 0.01}, {"latency_seconds": 0.011}), config)
        self.assertEqual(order(tier(*apart), config, last), "ab|")
        self.assertEqual(order(tier(*apart), config), "a|b")

    def test_noise_moves_nobody(self) -> None:
        """Nodes whose latencies stay within 10 % of each other never change places."""

        @settings(max_examples=60, deadline=None)
        @given(
            st.lists(st.tuples(*[st.floats(0.010, 0.0119)] * 4), min_size=1, max_size=10),
        )
        def check(rounds: list[tuple[float, ...]]) -> None:
            last: Paths = {}
            for figures in rounds:
                nodes = latencies(*(1000 * f for f in figures))
                assert order(nodes, self.config, last) == "abcd|"
                last = paths(nodes, self.config, last)

        run_property(check)


class SuspicionTests(SynchronousTestCase):
    def test_last(self) -> None:
        """A suspect node comes last, however good."""
        nodes = tier(
            {"latency_seconds": 0.001, "suspicion": "reset"}, {"latency_seconds": 0.9}, {"latency_seconds": 0.5}
        )
        self.assertEqual(order(nodes, priority(LATENCY)), "c|ba")
        self.assertEqual(rank(nodes, priority(LATENCY), {})[-1].reason, "suspect (reset): last in its tier")

    def test_all(self) -> None:
        """When all are suspect the order is as if none were."""
        clear = latencies(5, 9, 1)
        suspect = tier(*({"latency_seconds": c.latency_seconds, "suspicion": "x"} for c in clear))
        self.assertEqual(order(suspect, priority(LATENCY)), order(clear, priority(LATENCY)))

    def test_no_tie(self) -> None:
        """A suspect node ties with no clear one."""
        self.assertEqual(order(tier({}, {"suspicion": "x"}, {}), priority(LATENCY)), "ac|b")


class WeightTests(SynchronousTestCase):
    def test_failover_priority(self) -> None:
        """With failover-priority the heaviest is first, equal ones stay as configured, suspect ones come last."""
        nodes = tier({"weight": 1}, {"weight": 9, "suspicion": "x"}, {"weight": 5}, {"weight": 5})
        config = priority(LATENCY, strategy=Strategy.FAILOVER_PRIORITY)
        self.assertEqual(order(nodes, config), "c|dab")
        self.assertEqual(rank(nodes, config, {})[0].reason, "weight 5")


class ReasonTests(SynchronousTestCase):
    def reasons(self, nodes: list[Candidate], config: NetworkConfig) -> list[str]:
        return [r.reason for r in rank(nodes, config, {})]

    def test_single(self) -> None:
        """A node alone says so."""
        self.assertEqual(self.reasons(latencies(3), priority(LATENCY)), ["the only good one of its tier"])

    def test_apart(self) -> None:
        """The figure that parts two nodes is named, with the best one's."""
        self.assertEqual(
            self.reasons(latencies(40.26, 3), priority(LATENCY)),
            ["best: latency 3 ms", "latency 40.3 ms, the best 3 ms"],
        )

    def test_ties(self) -> None:
        """Nodes that tie name the one that is listed first."""
        self.assertEqual(
            self.reasons(latencies(3, 4, 4.5, 90), priority(LATENCY)),
            [
                "best: latency 3 ms, ties with 2 others, listed first",
                "ties with a",
                "ties with a",
                "latency 90 ms, the best 3 ms",
            ],
        )
        self.assertEqual(self.reasons(latencies(3, 4), priority())[0], "ties with another, listed first")

    def test_words(self) -> None:
        """Loads and blocks are said in their own words, the unknown too."""
        self.assertEqual(self.reasons(tier({"load": 0.5}, {}), priority(LOAD))[1], "load unknown, the best 0.50")
        nodes = tier({"behind_blocks": 3}, {"behind_blocks": 1})
        self.assertEqual(self.reasons(nodes, priority(HEAD)), ["best: 1 block behind", "3 blocks behind, the best 1"])


# the reference: written from the documentation, by elimination, sharing nothing but the data classes


def eliminate(nodes: list[Candidate], config: NetworkConfig, last: Paths) -> list[list[str]]:
    """Groups of names that tie, best first."""
    wanted = list(config.load_balance_priority)
    if nodes and nodes[0].role is Role.FALLBACK:
        wanted = [HEAD] + [c for c in wanted if c is not HEAD]
    elif HEAD not in wanted:
        wanted.append(HEAD)
    seen: list[Criterion] = []
    for criterion in wanted:
        if criterion not in seen:
            seen.append(criterion)
    groups = []
    for suspect in (False, True):
        groups += split([n for n in nodes if (n.suspicion is not None) == suspect], seen, [], last)
    return groups


def split(nodes: list[Candidate], criteria: list[Criterion], at: list[int], last: Paths) -> list[list[str]]:
    if not nodes:
        return []
    if not criteria:
        return [[n.name for n in nodes]]
    groups, left, level = [], list(nodes), 0
    while left:
        best = min(value(n, criteria[0]) for n in left)
        slack = {LATENCY: max(0.002, best / 5), LOAD: 0.1, HEAD: 1}[criteria[0]]
        here = [*at, level]
        staying = [n for n in left if list(last.get(n.index, ()))[: len(here)] == here]
        taken = [n for n in left if value(n, criteria[0]) <= best + slack * (1.5 if n in staying else 1)]
        groups += split(taken, criteria[1:], here, last)
        left = [n for n in left if n not in taken]
        level += 1
    return groups


def value(node: Candidate, criterion: Criterion) -> float:
    if criterion is HEAD:
        return node.behind_blocks
    figure = node.load if criterion is LOAD else node.latency_seconds
    return inf if figure is None else figure


def candidates(role: Role) -> st.SearchStrategy[list[Candidate]]:
    one = st.fixed_dictionaries(
        {
            "latency_seconds": st.one_of(st.none(), st.sampled_from([0.001, 0.003, 0.0041, 0.005, 0.02, 0.024, 0.03])),
            "load": st.sampled_from([None, 0.0, 0.1, 0.16, 0.25, 1.0]),
            "behind_blocks": st.integers(0, 4),
            "suspicion": st.sampled_from([None, None, None, "x"]),
        }
    )
    return st.lists(one, min_size=1, max_size=7).map(lambda figures: tier(*figures, role=role))


class ReferenceTests(SynchronousTestCase):
    def test_against_elimination(self) -> None:
        """Order and ties are what plain elimination gives, also with a memory of what was before."""

        @settings(max_examples=400, deadline=None)
        @given(st.sampled_from(list(Role)), st.lists(st.sampled_from(list(Criterion)), max_size=4), st.data())
        def check(role: Role, criteria: list[Criterion], data: st.DataObject) -> None:
            config = priority(*criteria)
            last: Paths = {}
            for _ in range(3):
                nodes = data.draw(candidates(role))
                ranked = rank(nodes, config, last)
                groups = eliminate(nodes, config, last)
                assert [r.candidate.name for r in ranked] == [name for group in groups for name in group]
                assert leading_ties(ranked) == len(groups[0])
                assert all(r.reason for r in ranked)
                last = {r.candidate.index: r.path for r in ranked}

        run_property(check)
