"""One word for what a node is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.schema import Role
from evmlb.policy.ranking import Candidate, Hold, Obstacle, ObstacleKind
from evmlb.policy.states import NodeState, state_of


def state(*, serves: bool = False, reserve: bool = False, **facts: object) -> NodeState:
    candidate = Candidate(index=0, name="a", role=Role.LOCAL, **facts)  # type: ignore[arg-type]
    return state_of(candidate, serves=serves, reserve=reserve, limit_blocks=5)


class StateTests(SynchronousTestCase):
    def test_places(self) -> None:
        """A node that is asked is called by its place, whatever else is true of it."""
        self.assertEqual(state(serves=True, ejected="x"), NodeState.SERVING)
        self.assertEqual(state(reserve=True, lag_blocks=9), NodeState.RESERVE)
        self.assertEqual(state(), NodeState.STANDBY)

    def test_first_that_applies(self) -> None:
        """What keeps it out most is the word: polls, then its limit, then failing requests, then its lag."""
        obstacle = Obstacle(ObstacleKind.POLLS_FAIL, "x")
        facts = {"lag_blocks": 9, "ejected": "x", "limited": Hold.TOLD, "obstacle": obstacle}
        words = [NodeState.BEHIND, NodeState.EJECTED, NodeState.LIMITED, NodeState.UNREACHABLE]
        for count, word in enumerate(words, 1):
            self.assertEqual(state(**dict(list(facts.items())[:count])), word)
        self.assertEqual(state(lag_blocks=5), NodeState.STANDBY)

    def test_every_obstacle(self) -> None:
        """Each obstacle has a word."""
        for kind in ObstacleKind:
            self.assertIsInstance(state(obstacle=Obstacle(kind, "x")), NodeState)
