"""Who may serve."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import NetworkConfig, Role, WhenNoneInRange
from evmlb.policy.ranking import Candidate, Obstacle, ObstacleKind
from evmlb.policy.selection import Selection, select
from tests.support import network_config, run_property

L, M, F = Role.LOCAL, Role.MONITORING, Role.FALLBACK
NEAREST = WhenNoneInRange.NEAREST
DOWN = Obstacle(ObstacleKind.POLLS_FAIL, "polls fail: refused")


def node(role: Role, lag: int = 0, **more: Any) -> dict[str, Any]:
    return {"role": role, "lag_blocks": lag, "behind_blocks": lag, "head": 1000 - lag, **more}


def down(role: Role) -> dict[str, Any]:
    return node(role, obstacle=DOWN)


def network(*nodes: dict[str, Any]) -> list[Candidate]:
    return [Candidate(index=i, name=f"{n['role'].value[0]}{i}", **n) for i, n in enumerate(nodes)]


def chosen(*nodes: dict[str, Any], **config: Any) -> Selection:
    return select(network(*nodes), network_config(**config), {})


def switching(threshold: int = 0, **more: Any) -> dict[str, Any]:
    return {"switch_to_fallback_enabled": True, "switch_to_fallback_block_threshold": threshold, **more}


class TableTests(SynchronousTestCase):
    def check(self, selection: Selection, serving: tuple[int, ...], reserve: tuple[int, ...] = ()) -> None:
        self.assertEqual((selection.serving, selection.reserve), (serving, reserve))

    def test_local(self) -> None:
        """Local nodes in range serve; monitoring nodes in range, then fallback nodes, are the reserve."""
        nodes = (node(F), node(M, 5), node(L, 5), node(L, 6))
        selection = chosen(*nodes, **switching(9))
        self.check(selection, (2,), (1, 0))
        self.assertEqual((selection.tier, selection.ties, selection.degraded), (L, 1, False))

    def test_switching_disabled(self) -> None:
        """Without switching, fallback nodes are no reserve while any other is reachable."""
        self.check(chosen(node(L, 1), node(F)), (0,))
        self.check(chosen(node(L, 100), node(F)), ())
        self.check(chosen(down(L), node(M, 100), node(F)), ())
        self.check(chosen(down(L), down(M), node(F)), (2,))

    def test_monitoring(self) -> None:
        """Monitoring nodes serve when no local one is in range, unless told not to."""
        self.check(chosen(node(L, 6), node(M, 5)), (1,))
        self.check(chosen(node(L, 6), node(M, 5), monitoring_nodes_serve=False), ())
        self.check(chosen(node(L, 6), node(M), node(F), **switching(), monitoring_nodes_serve=False), (2,))

    def test_fallback_diff(self) -> None:
        """Fallback nodes have a block diff of their own."""
        self.check(chosen(down(L), node(F, 6), node(F, 7), fallback_block_diff=6), (1,))

    def test_threshold(self) -> None:
        """When all reachable local nodes lag more than the threshold they step behind the others."""
        self.check(chosen(node(L, 4), node(L, 4), node(F), **switching(3)), (2,), (0, 1))
        self.check(chosen(node(L, 4), node(L, 4), node(M), node(F), **switching(3)), (2,), (3, 0, 1))
        self.check(chosen(node(L, 4), node(L, 3), node(F), **switching(3)), (0, 1), (2,))

    def test_threshold_needs_switching(self) -> None:
        """The threshold means nothing while switching is disabled."""
        self.check(chosen(node(L, 4), node(M)), (0,), (1,))

    def test_threshold_with_nobody_else(self) -> None:
        """Late local nodes that are in range serve rather than nobody."""
        self.check(chosen(node(L, 4), down(F), **switching(3)), (0,))

    def test_unreachable_locals_do_not_count(self) -> None:
        """For the threshold only reachable local nodes count."""
        self.check(chosen(down(L), node(L, 4), node(F), **switching(3)), (2,), (1,))

    def test_nearest(self) -> None:
        """With nearest, the local or monitoring node with the highest head serves, degraded; the next is in reserve."""
        selection = chosen(node(L, 50), node(M, 20), node(L, 20), node(F, 50), when_none_in_range=NEAREST)
        self.check(selection, (2,), (1, 0))
        self.assertTrue(selection.degraded)
        self.assertEqual(selection.reasons[2], "nearest of none in range: 20 blocks behind (limit 5)")

    def test_nearest_needs_permission(self) -> None:
        """With nearest, monitoring nodes that do not serve do not."""
        self.check(chosen(node(L, 50), node(M, 20), when_none_in_range=NEAREST, monitoring_nodes_serve=False), (0,))

    def test_suspect_before_next_tier(self) -> None:
        """A suspect node is asked before the next tier's nodes."""
        self.check(chosen(node(M), node(L, suspicion="reset"), node(L)), (2, 1), (0,))


class EjectionTests(SynchronousTestCase):
    def test_out(self) -> None:
        """An ejected node is no candidate, and is worth a trial."""
        selection = chosen(node(L, ejected="reset"), node(L), node(M))
        self.assertEqual((selection.serving, selection.reserve), ((1,), (2,)))
        self.assertEqual(selection.eligible, {0})
        self.assertEqual(selection.reasons[0], "ejected (reset): waits for a trial")

    def test_not_worth_a_trial(self) -> None:
        """An ejected node that could not serve anyway is not worth one."""
        self.assertEqual(chosen(node(L, 9, ejected="reset"), node(L)).eligible, frozenset())
        self.assertEqual(chosen(node(L, ejected="reset", obstacle=DOWN), node(L)).eligible, frozenset())

    def test_tier(self) -> None:
        """When all of a tier are ejected the next one serves."""
        self.assertEqual(chosen(node(L, ejected="x"), node(M)).serving, (1,))

    def test_panic(self) -> None:
        """When all that could serve are ejected they serve."""
        selection = chosen(node(L, ejected="reset"), node(L, 9), down(F))
        self.assertEqual((selection.serving, selection.panic), ((0,), True))
        self.assertEqual(selection.reasons[0], "ejected (reset), asked because nothing else is left")

    def test_nearest_before_panic(self) -> None:
        """With nearest, a node that is behind is something else that is left."""
        selection = chosen(node(L, ejected="reset"), node(L, 9), when_none_in_range=NEAREST)
        self.assertEqual((selection.serving, selection.panic), ((1,), False))


class RefusalTests(SynchronousTestCase):
    def refusal(self, *nodes: dict[str, Any], **config: Any) -> str:
        refusal = chosen(*nodes, name="eth", **config).refusal
        assert refusal is not None
        return refusal

    def test_words(self) -> None:
        """A refusal begins in the original's words and names lag, limit and setting."""
        self.assertEqual(
            self.refusal(node(L, 12), node(L, 30)),
            "No valid endpoint available for network eth: "
            "the nearest local node is 12 blocks behind, network_block_diff allows 5",
        )

    def test_every_role(self) -> None:
        """Every role that has nodes has its clause."""
        self.assertEqual(
            self.refusal(node(L, 12), down(M), node(F, 3), fallback_block_diff=2, **switching()).partition(": ")[2],
            "the nearest local node is 12 blocks behind, network_block_diff allows 5; "
            "no monitoring node is reachable (polls fail); "
            "the nearest fallback node is 3 blocks behind, fallback_block_diff allows 2",
        )

    def test_settings(self) -> None:
        """Where a setting holds nodes back, the setting is named."""
        self.assertIn("monitoring_nodes_serve is false", self.refusal(down(L), node(M), monitoring_nodes_serve=False))
        self.assertIn("switch_to_fallback_enabled is false", self.refusal(node(L, 12), node(F)))

    def test_dispute(self) -> None:
        """A dispute refuses, whatever the nodes say."""
        selection = select(network(node(L)), network_config(name="eth"), {}, dispute="no chain id")
        self.assertEqual(selection.refusal, "No valid endpoint available for network eth: no chain id")
        self.assertEqual(selection.serving, ())

    def test_no_nodes(self) -> None:
        """A network without nodes says so."""
        self.assertIn("no nodes", select([], network_config(), {}).refusal or "")

    def test_no_names(self) -> None:
        """No node's name is in a refusal: names default to hosts."""
        nodes = network(node(L, 12), down(M))
        self.assertFalse(any(n.name in (chosen(node(L, 12), down(M)).refusal or "") for n in nodes))


class ReasonTests(SynchronousTestCase):
    def test_held_back(self) -> None:
        """Every node that does not serve has its reason."""
        reasons = chosen(node(L), node(L, 6), down(L), node(M), node(F), monitoring_nodes_serve=False).reasons
        self.assertEqual(
            reasons,
            (
                "the only good one of its tier",
                "6 blocks behind (limit 5)",
                "polls fail: refused",
                "monitoring nodes do not serve (monitoring_nodes_serve)",
                "fallback nodes wait until no other node is reachable (switch_to_fallback_enabled)",
            ),
        )

    def test_reserve(self) -> None:
        """The reserve says behind which tier it stands."""
        self.assertEqual(
            chosen(node(L), node(M)).reasons[1], "in reserve behind the local tier: the only good one of its tier"
        )


# the reference: the table, row by row, for one set of nodes that are not ejected


def by_the_table(nodes: list[Candidate], config: NetworkConfig) -> tuple[set[int], set[int], bool]:
    """Who serves, who is in reserve, degraded?"""
    reachable = [n for n in nodes if n.obstacle is None]
    local = {n.index: n.lag_blocks for n in reachable if n.role is L}
    monitoring = {n.index: n.lag_blocks for n in reachable if n.role is M}
    fallback = {n.index: n.lag_blocks for n in reachable if n.role is F}
    locals_ok = {i for i, lag in local.items() if lag <= config.network_block_diff}
    monitors_ok = {i for i, lag in monitoring.items() if lag <= config.network_block_diff}
    fallbacks_ok = {i for i, lag in fallback.items() if lag <= config.fallback_block_diff}
    if not config.monitoring_nodes_serve:
        monitors_ok = set()
    if not config.switch_to_fallback_enabled and (local or monitoring):
        fallbacks_ok = set()
    late = (
        config.switch_to_fallback_enabled
        and len(local) > 0
        and all(lag > config.switch_to_fallback_block_threshold for lag in local.values())
    )
    everyone = locals_ok | monitors_ok | fallbacks_ok
    if locals_ok and not late:
        return locals_ok, everyone - locals_ok, False
    if monitors_ok:
        return monitors_ok, everyone - monitors_ok, False
    if fallbacks_ok:
        return fallbacks_ok, everyone - fallbacks_ok, False
    if locals_ok:
        return locals_ok, set(), False
    if config.when_none_in_range is not NEAREST:
        return set(), set(), False
    near = [n for n in reachable if n.role is L or (n.role is M and config.monitoring_nodes_serve)]
    if not near:
        return set(), set(), True
    highest = max(n.head or 0 for n in near)
    first_role = L if any(n.role is L and n.head == highest for n in near) else M
    serving = {n.index for n in near if n.head == highest and n.role is first_role}
    return serving, {n.index for n in near} - serving, True


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Candidate], NetworkConfig]:
    nodes = [
        node(
            draw(st.sampled_from(list(Role))),
            draw(st.integers(0, 6)),
            obstacle=draw(st.sampled_from([None, None, None, DOWN])),
            ejected=draw(st.sampled_from([None, None, "x"])),
            suspicion=draw(st.sampled_from([None, None, "x"])),
            latency_seconds=draw(st.sampled_from([0.001, 0.01, 0.1])),
        )
        for _ in range(draw(st.integers(0, 7)))
    ]
    config = network_config(
        network_block_diff=draw(st.integers(0, 4)),
        fallback_block_diff=draw(st.integers(0, 4)),
        switch_to_fallback_enabled=draw(st.booleans()),
        switch_to_fallback_block_threshold=draw(st.integers(0, 4)),
        monitoring_nodes_serve=draw(st.booleans()),
        when_none_in_range=draw(st.sampled_from(list(WhenNoneInRange))),
    )
    return network(*nodes), config


class ReferenceTests(SynchronousTestCase):
    def test_against_the_table(self) -> None:
        """Who serves and who is in reserve is what the table says, ejected nodes left out first, then counted in."""

        @settings(max_examples=800, deadline=None)
        @given(networks())
        def check(drawn: tuple[list[Candidate], NetworkConfig]) -> None:
            nodes, config = drawn
            selection = select(nodes, config, {})
            serving, reserve, degraded = by_the_table([n for n in nodes if n.ejected is None], config)
            if not serving:
                serving, reserve, degraded = by_the_table(nodes, config)
                assert selection.panic == bool(serving)
            assert set(selection.serving) == serving
            assert set(selection.reserve) == reserve
            assert selection.degraded == (degraded and bool(serving))
            assert (selection.refusal is None) == bool(serving)
            assert (selection.tier is None) == (not serving)
            assert len(selection.reasons) == len(nodes)
            assert all(selection.reasons)
            assert (1 <= selection.ties <= len(serving)) if serving else selection.ties == 0
            asked = selection.serving + selection.reserve
            assert len(asked) == len(set(asked))
            assert {nodes[i].role for i in selection.serving} <= {selection.tier}

        run_property(check)

    def test_suspicion_takes_nobody_away(self) -> None:
        """Suspicion moves nodes within their tiers and nowhere else."""

        @settings(max_examples=200, deadline=None)
        @given(networks(), st.data())
        def check(drawn: tuple[list[Candidate], NetworkConfig], data: st.DataObject) -> None:
            nodes, config = drawn
            other = network(
                *(
                    node(
                        n.role,
                        n.lag_blocks,
                        obstacle=n.obstacle,
                        ejected=n.ejected,
                        latency_seconds=n.latency_seconds,
                        suspicion=data.draw(st.sampled_from([None, "y"])),
                    )
                    for n in nodes
                )
            )
            one, two = select(nodes, config, {}), select(other, config, {})
            assert set(one.serving) == set(two.serving)
            assert set(one.reserve) == set(two.reserve)

        run_property(check)
