"""Whatever befalls nodes and clients: each head and each log once, in order, and nothing left behind.

Each machine is run twice: from seeds, where every step is as likely as any other at any time, and by hypothesis, which
finds short examples but repeats itself much. ``EVMLB_SUBSCRIBING_SEEDS`` and ``EVMLB_SUBSCRIBING_EXAMPLES`` set how
many runs there are of each, ``EVMLB_SUBSCRIBING_STEPS`` how long they are, ``EVMLB_SUBSCRIBING_FIRST`` the first seed.
A seed that fails is named with its steps.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.subscribing.chain import ADDRESSES, TOPICS, Emitted
from tests.subscribing.clients import Client, Heads, LogsSeen
from tests.subscribing.world import FakeNode, World
from tests.support import run_property

EXAMPLES = int(os.environ.get("EVMLB_SUBSCRIBING_EXAMPLES", "40"))
SEEDS = int(os.environ.get("EVMLB_SUBSCRIBING_SEEDS", "100"))
FIRST = int(os.environ.get("EVMLB_SUBSCRIBING_FIRST", "0"))
STEPS = int(os.environ.get("EVMLB_SUBSCRIBING_STEPS", "40"))

FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"address": ADDRESSES[0]},
    {"address": list(ADDRESSES[1:3])},
    {"topics": [TOPICS[0]]},
    {"address": ADDRESSES[0], "topics": [None, list(TOPICS[:2])]},
)
BLOCKS: tuple[tuple[Emitted, ...], ...] = (
    (),
    ((0, ()),),
    ((3, (4,)),),
    ((1, (0,)), (0, (0, 1)), (2, ())),
    ((0, (0,)), (0, (0,))),
)
LIES = ("orphan", "child", "twin", "nonsense", "far")
A, OTHERS = "a", ("b", "c")
emitted = st.sampled_from(BLOCKS)


class Sound(RuleBasedStateMachine):
    """One node is well all the time, though it may be late. Subscribers notice nothing."""

    @initialize(push=st.booleans(), pruned=st.booleans())
    def begin(self, push: bool, pruned: bool) -> None:
        self.world = World("a b c", push=push, **self.limits())
        for name in OTHERS:
            self.world[name].has_all = not (pruned and self.may_be_cut())
        self.mirrors: list[tuple[Client, Heads | LogsSeen]] = []

    def limits(self) -> dict[str, int]:
        return {"backfill_blocks": 1000, "resume_blocks": 20}

    # the chain

    @rule(blocks=st.lists(emitted, min_size=1, max_size=3))
    def mine(self, blocks: list[tuple[Emitted, ...]]) -> None:
        for block in blocks:
            self.world.chain.mine(*block)

    @rule(depth=st.integers(1, 4), extra=st.integers(0, 2), block=emitted)
    def reorg(self, depth: int, extra: int, block: tuple[Emitted, ...]) -> None:
        self.world.chain.reorg(depth, depth + extra, *block)

    # nodes

    @rule(name=st.sampled_from((A, *OTHERS)), below=st.integers(0, 2))
    def see(self, name: str, below: int) -> None:
        self.world[name].see(self.world.chain.tip.ancestor(below))

    @rule(blocks=st.lists(emitted, min_size=1, max_size=3))
    def mine_seen(self, blocks: list[tuple[Emitted, ...]]) -> None:
        self.mine(blocks)
        self.world.all_see()

    @rule(name=st.sampled_from(OTHERS), what=st.sampled_from(("die", "freeze", "recover")))
    def befall(self, name: str, what: str) -> None:
        node = self.world[name]
        if what == "die":
            node.die()
        elif what == "freeze":
            node.is_frozen = True
        else:
            self.recover(node)

    def recover(self, node: FakeNode) -> None:
        node.is_dead = node.is_frozen = False

    @rule(name=st.sampled_from((A, *OTHERS)), connects=st.booleans())
    def flap(self, name: str, connects: bool) -> None:
        node = self.world[name]
        if not connects:
            node.disconnect()
        elif not node.is_dead:
            node.connect()

    @rule(
        name=st.sampled_from((A, *OTHERS)),
        delay=st.sampled_from((None, 0.01, 0.2, 0.7)),
        logs_after=st.sampled_from((0.0, 0.3)),
    )
    def slow(self, name: str, delay: float | None, logs_after: float) -> None:
        self.world[name].delay_seconds, self.world[name].logs_after_seconds = delay, logs_after

    @rule(seconds=st.sampled_from((0.01, 0.3, 1, 3)))
    def pass_time(self, seconds: float) -> None:
        if seconds < 1:
            self.world.clock.advance(seconds)
            self.world.settle()
        else:
            self.world.wait(int(seconds))

    # clients

    @rule()
    def subscribe_heads(self) -> None:
        client = self.world.client()
        self.mirrors.append((client, self.world.heads(client)))

    @rule(wanted=st.sampled_from(FILTERS))
    def subscribe_logs(self, wanted: dict[str, Any]) -> None:
        client = self.world.client()
        self.mirrors.append((client, self.world.logs(wanted, client)))

    @rule(
        wanted=st.sampled_from((None, *FILTERS)),
        depth=st.integers(0, 12),
        by=st.sampled_from(("hash", "number", "old")),
    )
    def resume(self, wanted: dict[str, Any] | None, depth: int, by: str) -> None:
        view = self.world.hub.blocks.view
        if view is None or view.tip is None:
            return
        tip = self.world.chain.blocks[view.tip.hash]
        if tip.is_lie:
            return  # a block that nobody has cannot be taken back: that client is closed
        block = tip.ancestor(depth)
        if by == "old":  # any other block there ever was
            block = [block for block in self.world.chain.blocks.values() if not block.is_lie][-depth - 1]
        resume = block.number if by == "number" else block.hash
        client = self.world.client()
        if wanted is None:
            self.mirrors.append((client, self.world.heads(client, resume)))
        else:
            self.mirrors.append((client, self.world.logs(wanted, client, resume)))

    @precondition(lambda self: self.mirrors)
    @rule(which=st.integers(0, 99), unsubscribes=st.booleans())
    def leave(self, which: int, unsubscribes: bool) -> None:
        client, _ = self.mirrors.pop(which % len(self.mirrors))
        if unsubscribes and client.replies and client.closed is None:
            assert self.world.hub.unsubscribe(client, client.last_id)
            told = len(client.order)
            client.is_open = False
            assert len(client.order) == told
        else:
            client.is_open = False
            self.world.hub.gone(client)

    # what must hold

    @invariant()
    def sensible(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def heal(self) -> None:
        for node in self.world.nodes.values():
            self.recover(node)
            node.delay_seconds, node.logs_after_seconds = 0.01, 0.0
        self.world.wait(5)
        for _ in range(3):
            self.world.chain.mine(*BLOCKS[3])
            self.world.all_see()
            self.world.wait(2)

    def may_be_cut(self) -> bool:
        return False

    def teardown(self) -> None:
        """In the end all clients have the chain, and no log is missing; then nothing is left."""
        if not hasattr(self, "world"):
            return
        self.heal()
        self.world.check()
        assert self.may_be_cut() or not self.world.hub.cuts
        for client, mirror in self.mirrors:
            assert client.replies or client.refusals, "no answer"
            assert client.closed is None or self.may_be_cut()
            is_counted = isinstance(mirror, LogsSeen) and self.world.hub.logs.unproven and self.may_be_cut()
            if client.replies and client.closed is None and not is_counted:
                mirror.check(self.world.chain.tip)
        self.world.close()


class Ruin(Sound):
    """Every node may fall ill, all at once too. Who is not closed has missed nothing."""

    @rule(what=st.sampled_from(("die", "freeze", "recover")))
    def befall_the_best(self, what: str) -> None:
        self.befall(A, what)

    @rule(name=st.sampled_from((A, *OTHERS)), is_garbage=st.booleans())
    def babble(self, name: str, is_garbage: bool) -> None:
        """Its answers are of no use: a node that has lost its data, or has none yet."""
        self.world[name].spoil = lambda method, params, result: None if is_garbage else result

    @rule(seconds=st.sampled_from((20, 70)))
    def pass_much_time(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(count=st.sampled_from((20, 50)))
    def leap(self, count: int) -> None:
        """The chain goes on without us."""
        self.world.chain.mine_many(count, (0, (0,)))

    def limits(self) -> dict[str, int]:
        return {"backfill_blocks": 40, "resume_blocks": 20}

    def recover(self, node: FakeNode) -> None:
        super().recover(node)
        node.spoil = lambda method, params, result: result

    def may_be_cut(self) -> bool:
        return True


class Hostile(Sound):
    """One node is well, another one makes things up. Nobody is harmed but by a chain that is not: it is undone."""

    @rule(ahead=st.integers(-5, 8), kind=st.sampled_from(LIES))
    def lie(self, ahead: int, kind: str) -> None:
        block = self.world.chain.tip
        value = {**block.value, "hash": "0x" + f"{ahead + 100:064x}"}
        view = self.world.hub.blocks.view
        if kind in ("orphan", "twin") and (view is None or view.tip is None):
            return  # a view that begins with a lie ends when the truth comes: all are closed
        if kind == "orphan":
            value |= {"parentHash": "0x" + f"{ahead + 900:064x}", "number": hex(max(0, block.number + ahead))}
        elif kind == "child":
            value = self.world.chain.invent(block).value
        elif kind == "twin":
            value |= {"hash": block.hash, "parentHash": "0x" + f"{ahead + 900:064x}"}
        elif kind == "far":
            value |= {"number": hex(2**40 + ahead)}
        self.world[LIAR].push("newHeads", value if kind != "nonsense" else [[], None, "x", 1e300][ahead % 4])

    @rule(kind=st.sampled_from(("true", "empty", "other", "wild", "null", "deep")))
    def mislead(self, kind: str) -> None:
        self.world[LIAR].spoil = SPOILS[kind]

    @rule()
    def tell_unasked(self) -> None:
        """Events of subscriptions that were ended."""
        for handle in tuple(self.world[LIAR].handles):
            handle.told(b"{")
            handle.told(b'{"number":"0x' + b"f" * 1000 + b'"}')

    def heal(self) -> None:
        self.world[LIAR].spoil = SPOILS["true"]
        super().heal()


def _deep(method: str, params: list[Any], result: Any) -> Any:
    nested: Any = []
    for _ in range(240):
        nested = [nested]
    return nested


def _other(method: str, params: list[Any], result: Any) -> Any:
    """Another block's logs, or another block."""
    if isinstance(result, dict):
        return {**result, "number": hex(int(result["number"], 16) + 1), "hash": "0x" + "77" * 32}
    return [{"blockHash": "0x" + "77" * 32, "logIndex": "0x0", "address": ADDRESSES[0], "topics": []}]


SPOILS = {
    "true": lambda method, params, result: result,
    "empty": lambda method, params, result: [] if method == "eth_getLogs" else result,
    "null": lambda method, params, result: None,
    "wild": lambda method, params, result: [{"logIndex": 5, "address": "0x", "topics": {}}, 5],
    "other": _other,
    "deep": _deep,
}
LIAR = "b"


# -- from seeds

Draw = Callable[[random.Random], dict[str, Any]]
DELAYS, LOGS_AFTER = (None, 0.01, 0.2, 0.7), (0.0, 0.3)


def _blocks(rng: random.Random) -> list[tuple[Emitted, ...]]:
    return rng.choices(BLOCKS, k=rng.randint(1, 3))


def _node(rng: random.Random) -> str:
    return rng.choice((A, *OTHERS))


SOUND: dict[str, Draw] = {
    "mine": lambda rng: {"blocks": _blocks(rng)},
    "mine_seen": lambda rng: {"blocks": _blocks(rng)},
    "reorg": lambda rng: {"depth": rng.randint(1, 4), "extra": rng.randint(0, 2), "block": rng.choice(BLOCKS)},
    "see": lambda rng: {"name": _node(rng), "below": rng.randint(0, 2)},
    "befall": lambda rng: {"name": rng.choice(OTHERS), "what": rng.choice(("die", "freeze", "recover"))},
    "flap": lambda rng: {"name": _node(rng), "connects": rng.random() < 0.5},
    "slow": lambda rng: {"name": _node(rng), "delay": rng.choice(DELAYS), "logs_after": rng.choice(LOGS_AFTER)},
    "pass_time": lambda rng: {"seconds": rng.choice((0.01, 0.3, 1, 3))},
    "subscribe_heads": lambda rng: {},
    "subscribe_logs": lambda rng: {"wanted": rng.choice(FILTERS)},
    "resume": lambda rng: {
        "wanted": rng.choice((None, *FILTERS)),
        "depth": rng.randint(0, 12),
        "by": rng.choice(("hash", "number", "old")),
    },
    "leave": lambda rng: {"which": rng.randint(0, 99), "unsubscribes": rng.random() < 0.5},
}
RUIN: dict[str, Draw] = {
    "befall_the_best": lambda rng: {"what": rng.choice(("die", "freeze", "recover"))},
    "babble": lambda rng: {"name": _node(rng), "is_garbage": rng.random() < 0.5},
    "pass_much_time": lambda rng: {"seconds": rng.choice((20, 70))},
    "leap": lambda rng: {"count": rng.choice((20, 50))},
}
HOSTILE: dict[str, Draw] = {
    "lie": lambda rng: {"ahead": rng.randint(-5, 8), "kind": rng.choice(LIES)},
    "mislead": lambda rng: {"kind": rng.choice(list(SPOILS))},
    "tell_unasked": lambda rng: {},
}


def run_seed(machine: type[Sound], draws: dict[str, Draw], seed: int) -> None:
    """One run; what fails is raised with the seed and the steps that led to it."""
    rng = random.Random(seed)
    state = machine()
    arguments = {"push": rng.random() < 0.5, "pruned": rng.random() < 0.5}
    steps = [f"begin({arguments})"]
    try:
        state.begin(**arguments)
        for _ in range(rng.randint(1, STEPS)):
            name = rng.choice(list(draws))
            drawn = draws[name](rng)
            if name != "leave" or state.mirrors:
                steps.append(f"{name}({drawn})")
                getattr(state, name)(**drawn)
                state.sensible()
        state.teardown()
    except Exception as error:
        raise AssertionError("\n".join((f"seed {seed}: {error!r}", *steps))) from error


class FoundTests(SynchronousTestCase):
    """What the machines found once, by examples that no run need find again."""

    def test_lone_liar(self) -> None:
        """The only node in step gives no history; it is had later, and a reorg below the first block cuts nobody."""
        state = Hostile()
        state.begin(push=True, pruned=False)
        state.mine([()] * 6)
        state.mislead("other")
        state.see(LIAR, 0)
        state.pass_time(3)
        state.subscribe_heads()
        state.reorg(depth=2, extra=0, block=())
        state.teardown()


class MachineTests(SynchronousTestCase):
    def run_machine(self, machine: type[Sound], draws: dict[str, Draw]) -> None:
        for seed in range(FIRST, FIRST + SEEDS):
            run_seed(machine, draws, seed)
        chosen = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
            report_multiple_bugs=False,
        )
        run_property(lambda: run_state_machine_as_test(machine, settings=chosen))

    def test_sound(self) -> None:
        """While one node is well, subscribers notice nothing of what befalls the others."""
        self.run_machine(Sound, SOUND)

    def test_ruin(self) -> None:
        """When all fall ill, who could not be told everything is closed, and the others miss nothing."""
        self.run_machine(Ruin, SOUND | RUIN)

    def test_hostile(self) -> None:
        """A node that makes things up does not keep the truth from anybody."""
        self.run_machine(Hostile, SOUND | HOSTILE)
