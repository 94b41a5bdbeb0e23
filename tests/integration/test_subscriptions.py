"""Subscriptions of real clients before real nodes that die, stand still, reorganise and come back.

ethers, viem and web3.py hold newHeads and logs through all of it. In the end each must know exactly the chain that the
nodes have, and exactly its logs; and on the way there must be no hole, and nothing told twice
(:mod:`tests.integration.mirror`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import parts
from tests.integration.asking import get, wait_until
from tests.integration.stepped import SteppedChain
from tests.integration.subscribers import CLIENTS, Subscriber
from tests.support import free_port

CONFIG = """
networks:
  - name: mainnet
    local_poll_interval: 250ms
    rpc_timeout: 2s
    load_balance_priority: [chainhead]
    local_nodes:
"""
BLOCK_SECONDS = 0.2
FIRST_BLOCKS = 5
MOST_REPLACED = 3
"""Every client was told of so many blocks before anything happens: no reorg goes below them."""
WAIT_SECONDS = 15.0


class SubscriptionsTestCase(SynchronousTestCase):
    def begin(self, websockets: Sequence[bool] = (True, True)) -> None:
        """Nodes, the balancer before them, and every client, each having been told something.

        ``websockets``: whether the balancer finds a node's WebSocket; else it is looked for where nobody is.
        """
        self.chain = SteppedChain()
        self.addCleanup(self.chain.clean)
        for _ in range(FIRST_BLOCKS):
            self.chain.mine()
        self.evmlb = parts.EvmlbProcess(self.config(websockets))
        self.addCleanup(self.evmlb.clean)
        self.evmlb.start()
        url = f"ws://127.0.0.1:{self.evmlb.port}/mainnet"
        self.subscribers = [Subscriber(client, url, self.chain.contract) for client in CLIENTS]
        for subscriber in self.subscribers:
            self.addCleanup(subscriber.clean)
            subscriber.launch()
        wait_until(self.all_are_told, WAIT_SECONDS, "every client to be told of something")
        self.begun_at = self.chain.leader.block_number()
        self.mine(MOST_REPLACED)
        self.settle()
        self.ids = [tuple(subscriber.ids) for subscriber in self.subscribers]

    def config(self, websockets: Sequence[bool]) -> str:
        """The balancer's configuration."""
        nodes = ""
        for place, (anvil, has_websocket) in enumerate(zip(self.chain.nodes, websockets, strict=True), 1):
            port = anvil.port if has_websocket else free_port()
            where = f"rpc_endpoint: '{anvil.url}', ws_endpoint: 'ws://127.0.0.1:{port}'"
            nodes += f"      - {{name: node-{place}, {where}}}\n"
        return parts.with_ports(CONFIG + nodes)

    def all_are_told(self) -> bool:
        """Mine, and say whether every client was told of a head and a log by now."""
        self.mine(1)
        return all(subscriber.is_ready() for subscriber in self.subscribers)

    def mine(self, blocks: int, logs: int = 1) -> None:
        """So many blocks in step, at their pace. What clients were told so far is looked at."""
        for _ in range(blocks):
            self.chain.mine(logs)
            time.sleep(BLOCK_SECONDS)
            for subscriber in self.subscribers:
                subscriber.read()

    def feeding(self) -> parts.Anvil:
        """The node that is first in the balancer's order."""
        return next(anvil for anvil in self.chain.nodes if self.node(anvil)["rank"] == 1)

    def node(self, anvil: parts.Anvil) -> dict[str, Any]:
        """What the balancer says of a node."""
        page = json.loads(get(self.evmlb.admin_url + "/nodes")[1])
        [network] = page["networks"] if isinstance(page["networks"], list) else page["networks"].values()
        name = f"node-{self.chain.nodes.index(anvil) + 1}"
        found: dict[str, Any] = next(node for node in network["nodes"] if node["name"] == name)
        return found

    def wait_for_node(self, anvil: parts.Anvil) -> None:
        """Mine until a node serves again."""

        def serves() -> bool:
            self.mine(1)
            return self.node(anvil)["rank"] is not None

        wait_until(serves, WAIT_SECONDS, "the node to serve again")

    def settle(self) -> None:
        """Mine a last block, wait until all were told of it, and compare all they know with the chain."""
        self.mine(1)
        heads, logs = self.chain.heads(), self.chain.logs()
        self.wait_for_all(heads[-1].hash)
        for subscriber in self.subscribers:
            mirror = subscriber.mirror
            first_head, first_log = mirror.heads[0], mirror.logs[0]
            self.assertLessEqual(max(first_head.number, first_log.number), self.begun_at, subscriber.name)
            self.assertEqual(mirror.heads, heads[first_head.number :], subscriber.name)
            self.assertEqual(mirror.logs, logs[logs.index(first_log) :], subscriber.name)

    def wait_for_all(self, tip: str) -> None:
        """Until every client was told of a head, and of its log, as the last ones."""
        for subscriber in self.subscribers:
            self.wait_for(subscriber, tip)

    def wait_for(self, subscriber: Subscriber, tip: str) -> None:
        """Until a client was told of them."""

        def is_told() -> bool:
            subscriber.read()
            return subscriber.mirror.tip == tip and subscriber.mirror.logs[-1].block == tip

        try:
            wait_until(is_told, WAIT_SECONDS, f"{subscriber.name} to be told of the last block")
        except AssertionError as error:
            mirror = subscriber.mirror
            known = f"it knows {mirror.heads[-3:]} and {mirror.logs[-3:]}"
            raise AssertionError(f"{error}; {known}\n{self.evmlb.output()[-2000:]}") from None

    def counts(self, what: str) -> list[int]:
        """Of each client's mirror."""
        return [getattr(subscriber.mirror, what) for subscriber in self.subscribers]

    def end(self) -> None:
        """Nobody had to subscribe again, and the balancer ends properly."""
        self.assertEqual([tuple(subscriber.ids) for subscriber in self.subscribers], self.ids)
        for subscriber in self.subscribers:
            subscriber.clean()
        self.evmlb.end()


class LossTests(SubscriptionsTestCase):
    def test_killed_and_frozen(self) -> None:
        """A node is killed and comes back, the other stands still and goes on: no block or log is missed."""
        self.begin()
        lost = self.feeding()
        self.chain.kill(lost)
        self.mine(8)
        self.chain.bring_back(lost)
        self.wait_for_node(lost)
        other = next(anvil for anvil in self.chain.nodes if anvil is not lost)
        self.chain.freeze(other)
        self.mine(10)
        self.chain.thaw(other)
        self.mine(3, logs=2)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [0, 0, 0])
        self.end()

    def test_dies_with_what_only_it_had(self) -> None:
        """A node that alone has twenty new blocks dies right after announcing them; they come with the other node."""
        self.begin()
        ahead, behind = self.chain.nodes
        self.chain.freeze(behind)
        for _ in range(20):
            self.chain.mine()
        self.chain.kill(ahead)
        self.chain.thaw(behind)
        self.mine(5)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [0, 0, 0])
        self.end()


class ReorgTests(SubscriptionsTestCase):
    def test_in_step(self) -> None:
        """Both nodes reorganise, at once and by rolling back; what was told is taken back, and the new branch told."""
        self.begin()
        self.chain.replace(3, logs=2)
        self.mine(3)
        self.settle()
        self.chain.roll_back(2)
        self.mine(4, logs=2)
        self.settle()
        self.chain.replace(1, logs=0)
        self.mine(2)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [3, 3, 3])
        self.assertEqual(self.counts("logs_removed"), [3 + 2 + 1] * 3)
        self.end()

    def test_alone(self) -> None:
        """One node goes its own way, further than the other, and comes back."""
        self.begin()
        stray = self.feeding()
        self.wait_for_all(self.chain.stray(stray, depth=2, blocks=3))
        self.mine(4)
        self.chain.reconcile(stray)
        self.mine(3)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [2, 2, 2])
        self.assertEqual(self.counts("logs_removed"), [2 + 3] * 3)
        self.end()

    def test_killed_amid_a_reorg(self) -> None:
        """A node reorganises alone and dies when clients know of it: what only it had said is taken back."""
        self.begin()
        stray = self.feeding()
        self.wait_for_all(self.chain.stray(stray, depth=2, blocks=3))
        self.chain.kill(stray)
        self.mine(4)
        self.chain.bring_back(stray)
        self.mine(3)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [2, 2, 2])
        self.end()


class PollTests(SubscriptionsTestCase):
    def test_without_websocket(self) -> None:
        """Before nodes that have no WebSocket the same is made from polls, through a death and a reorg."""
        self.begin(websockets=(False, False))
        self.chain.replace(2, logs=2)
        self.mine(3)
        lost = self.feeding()
        self.chain.kill(lost)
        self.mine(6)
        self.chain.bring_back(lost)
        self.mine(3)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [1, 1, 1])
        self.end()

    def test_from_push_to_polls(self) -> None:
        """The only node that has a WebSocket dies and comes back: polls of the other take over."""
        self.begin(websockets=(True, False))
        self.chain.kill(self.chain.nodes[0])
        self.mine(8, logs=2)
        self.chain.bring_back(self.chain.nodes[0])
        self.wait_for_node(self.chain.nodes[0])
        self.chain.replace(1)
        self.mine(3)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [1, 1, 1])
        self.end()


class ClientTests(SubscriptionsTestCase):
    def test_resume(self) -> None:
        """A client that comes again is told what it missed, and what it had been told and is no more."""
        self.begin()
        for subscriber in self.subscribers:
            subscriber.leave()
        wait_until(lambda: self.all_are("has_left"), WAIT_SECONDS, "every client to leave")
        self.chain.replace(2, logs=2)
        for _ in range(3):
            self.chain.mine(2)
        for subscriber in self.subscribers:
            subscriber.resume()
        self.mine(5)
        self.settle()
        self.assertEqual(self.counts("reorgs"), [1, 1, 1])
        self.assertEqual(self.counts("logs_removed"), [2, 2, 2])
        self.ids = [(*ids, *subscriber.ids[-2:]) for ids, subscriber in zip(self.ids, self.subscribers, strict=True)]
        self.end()

    def test_unsubscribe(self) -> None:
        """Who has unsubscribed is told nothing any more; others are."""
        self.begin()
        staying, *ending = self.subscribers
        for subscriber in ending:
            subscriber.tell("end")
        wait_until(lambda: self.all_are("ended", ending), WAIT_SECONDS, "the answers")
        told = [(each.mirror.heads_told, len(each.mirror.logs)) for each in ending]
        self.mine(3)
        self.wait_for(staying, self.chain.heads()[-1].hash)
        staying.tell("end")
        wait_until(lambda: self.all_are("ended"), WAIT_SECONDS, "the last answer")
        self.assertEqual([(each.mirror.heads_told, len(each.mirror.logs)) for each in ending], told)
        for subscriber in self.subscribers:
            self.assertEqual(set(subscriber.ended or ()), {True}, subscriber.name)
        self.end()

    def all_are(self, what: str, subscribers: Sequence[Subscriber] | None = None) -> bool:
        subscribers = self.subscribers if subscribers is None else subscribers
        for subscriber in subscribers:
            subscriber.read()
        return all(getattr(subscriber, what) for subscriber in subscribers)
