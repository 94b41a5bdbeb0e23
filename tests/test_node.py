"""One node's facts together."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.chain import Syncing
from evmlb.config.schema import Role
from evmlb.node import Node, Poll, facts_of
from evmlb.policy.ranking import ObstacleKind
from tests.support import Still, network_config, node_config


def made(role: Role = Role.LOCAL, **settings: Any) -> Node:
    config = node_config("a", role, **settings)
    return Node(config, network_config(config, fallback_block_diff=9), 0, Still())


def poll(number: int = 100, **facts: Any) -> Poll:
    return Poll(**{"number": number, "latency_seconds": 0.003, "started_at": 0.0, "chain_id": 1, **facts})


def kind_of(
    node: Node, expected: int | None = 1, *, chainhead: int = 100, refuted: bool = False
) -> ObstacleKind | None:
    node.chainhead_at_answer = chainhead
    obstacle = node.candidate_for(chainhead, expected, refuted=refuted).obstacle
    return None if obstacle is None else obstacle.kind


class ObstacleTests(SynchronousTestCase):
    def test_reachable(self) -> None:
        """A node that answered its poll for the right chain has no obstacle."""
        node = made()
        node.observe_poll(poll(), 1.0)
        self.assertIsNone(kind_of(node))

    def test_not_polled(self) -> None:
        """Before its first poll is over a node may not serve; when that failed, it is for that."""
        node = made()
        self.assertIs(kind_of(node), ObstacleKind.NOT_POLLED)
        node.observe_poll_failure("refused", 1.0, final=True)
        self.assertIs(kind_of(node), ObstacleKind.POLLS_FAIL)

    def test_polls_fail(self) -> None:
        """Two failed polls take it out, and its chain id is asked again."""
        node = made()
        node.observe_poll(poll(), 1.0)
        self.assertFalse(node.chain_id_wanted)
        for now in (2.0, 3.0):
            node.observe_poll_failure("refused", now, final=True)
        self.assertIs(kind_of(node), ObstacleKind.POLLS_FAIL)
        self.assertTrue(node.chain_id_wanted)

    def test_failed_try(self) -> None:
        """A failed try that is not the last only makes it suspect."""
        node = made()
        node.observe_poll(poll(), 1.0)
        for _ in range(9):
            node.observe_poll_failure("refused", 2.0, final=False)
        self.assertIsNone(kind_of(node))
        self.assertTrue(node.suspect and node.troubled)
        self.assertEqual(node.last_poll_at, 1.0)

    def test_chain(self) -> None:
        """A node serves only when its chain id is known, agreed on and the right one."""
        node = made()
        node.observe_poll(poll(chain_id=None), 1.0)
        self.assertIs(kind_of(node), ObstacleKind.CHAIN_UNKNOWN)
        node.observe_poll(poll(chain_id=5), 2.0)
        self.assertIs(kind_of(node), ObstacleKind.WRONG_CHAIN)
        self.assertIs(kind_of(node, None), ObstacleKind.CHAIN_DISPUTED)
        node.observe_poll(poll(chain_id=None), 3.0)
        self.assertIsNone(kind_of(node, 5))

    def test_unchecked_chain(self) -> None:
        """A node whose chain id is not checked needs none, and has no vote."""
        node = made(check_chain_id=False)
        node.observe_poll(poll(chain_id=None), 1.0)
        self.assertIsNone(kind_of(node, None))
        self.assertFalse(node.chain_id_wanted or node.has_vote)

    def test_refuted(self) -> None:
        """A node whose head is refuted is out."""
        node = made()
        node.observe_poll(poll(), 1.0)
        self.assertIs(kind_of(node, refuted=True), ObstacleKind.HEAD_REFUTED)

    def test_syncing(self) -> None:
        """Syncing counts only when its distance, or the lag, is beyond the block diff of the role."""
        for role, distance, head, expected in (
            (Role.LOCAL, 5, 100, None),
            (Role.LOCAL, 6, 100, ObstacleKind.SYNCING),
            (Role.LOCAL, 0, 95, None),
            (Role.LOCAL, 0, 94, ObstacleKind.SYNCING),
            (Role.FALLBACK, 9, 100, None),
            (Role.FALLBACK, 10, 100, ObstacleKind.SYNCING),
        ):
            node = made(role)
            node.observe_poll(poll(head, syncing=Syncing(distance)), 1.0)
            self.assertIs(kind_of(node), expected, (role, distance, head))

    def test_done_syncing(self) -> None:
        """A poll without a sync status ends it."""
        node = made()
        node.observe_poll(poll(syncing=Syncing(99)), 1.0)
        node.observe_poll(poll(), 2.0)
        self.assertIsNone(kind_of(node))

    def test_observation(self) -> None:
        """An observation is good for 3 s, or for two intervals and a second if that is longer."""
        local, other = made(), made(Role.MONITORING)
        self.assertIsNone(local.observation_ends_at())
        for node in (local, other):
            node.observe_poll(poll(), 10.0)
        self.assertEqual((local.observation_ends_at(), other.observation_ends_at()), (13.0, 21.0))


class LagTests(SynchronousTestCase):
    def lags(self, head: int, then: int, settled: int, fallen: int | None = None) -> tuple[int, int]:
        node = made()
        node.observe_poll(poll(head), 1.0)
        node.chainhead_at_answer, node.settled_chainhead_at_answer = then, settled
        if fallen is not None:
            node.lower_chainhead(fallen)
        candidate = node.candidate_for(fallen or 10**6, 1, refuted=False)
        return candidate.lag_blocks, candidate.behind_blocks

    def test_as_known_then(self) -> None:
        """The lag is measured from the chainhead when the node answered, not from what came later."""
        self.assertEqual(self.lags(100, 101, 101), (1, 1))

    def test_young_blocks(self) -> None:
        """Blocks younger than a poll interval are lag, but do not count among the nodes of a tier."""
        self.assertEqual(self.lags(100, 104, 100), (4, 0))
        self.assertEqual(self.lags(100, 104, 101), (4, 4))

    def test_chainhead_fell(self) -> None:
        """A chainhead that came down takes the lag with it."""
        self.assertEqual(self.lags(100, 1000, 1000, 101), (1, 1))

    def test_ahead(self) -> None:
        """A node ahead of the chainhead is not behind."""
        self.assertEqual(self.lags(100, 90, 90), (0, 0))


class TroubleTests(SynchronousTestCase):
    def test_calm(self) -> None:
        """A node without trouble wants to hear of nothing."""
        node = made()
        node.observe_poll(poll(), 1.0)
        self.assertFalse(node.troubled)

    def test_unproven(self) -> None:
        """An unproven failure makes suspect, and a success or good poll ends that."""
        node = made()
        for clear in (lambda: node.record_success(1.5, last_resort=False), lambda: node.observe_poll(poll(), 2.0)):
            node.record_failure("garbage", 1.0, proven=False)
            self.assertTrue(node.suspect and node.troubled)
            clear()
            self.assertFalse(node.suspect or node.troubled)

    def test_proven(self) -> None:
        """After one proven failure a good poll ends the suspicion, yet the node still wants to hear of a success."""
        node = made()
        node.record_failure("reset", 1.0, proven=True)
        node.observe_poll(poll(), 2.0)
        self.assertEqual((node.suspect, node.troubled), (False, True))
        node.record_success(3.0, last_resort=False)
        self.assertTrue(node.troubled)  # until the window of the breaker has passed
        node.expire(12.0)
        self.assertFalse(node.troubled)

    def test_unsafe_in_a_row(self) -> None:
        """Five failed unsafe calls in a row count as proven; after a success the count starts anew."""
        node = made()
        for _ in range(4):
            node.record_failure("reset", 1.0, proven=False, unsafe=True)
        node.record_success(1.0, last_resort=False)
        self.assertFalse(node.troubled)
        for _ in range(5):
            node.record_failure("reset", 1.0, proven=False, unsafe=True)
        self.assertFalse(node.ejected)
        node.record_failure("reset", 1.0, proven=False, unsafe=True)
        self.assertTrue(node.ejected)

    def test_ejected(self) -> None:
        """Two proven failures eject, and good polls do not bring the node back."""
        node = made()
        for _ in range(2):
            node.record_failure("reset", 1.0, proven=True)
        for now in range(2, 60):
            node.observe_poll(poll(), now)
        self.assertTrue(node.ejected and node.troubled)


class FactsTests(SynchronousTestCase):
    def test_jsonable(self) -> None:
        """The facts are JSON before and after anything is known."""
        node = made()
        json.dumps(facts_of(node, 0.0), allow_nan=False)
        node.observe_poll(poll(syncing=Syncing(3)), 1.0)
        facts = json.loads(json.dumps(facts_of(node, 2.5), allow_nan=False))
        self.assertEqual(facts["head"], 100)
        self.assertEqual(facts["last_poll_age_seconds"], 1.5)
        self.assertEqual(facts["syncing_distance_blocks"], 3)

    def test_masked(self) -> None:
        """No key of a URL is among the facts."""
        node = made(url="https://user:secret@node.test/v2/0123456789abcdef0123?key=hidden")
        text = json.dumps(facts_of(node, 0.0))
        for secret in ("secret", "0123456789abcdef", "hidden"):
            self.assertNotIn(secret, text)

    def test_trial(self) -> None:
        """An ejected node says when its trial is due."""
        node = made()
        for _ in range(2):
            node.record_failure("reset", 1.0, proven=True)
        self.assertEqual(facts_of(node, 1.25)["next_trial_in_seconds"], 0.75)
