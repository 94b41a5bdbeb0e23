"""The main promise, in front of two real nodes: one dies, one falls behind, and no client sees it."""

import json

from eth_account import Account
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import parts
from tests.integration.load import Load, nodes_that_answer
from tests.support import free_port

CONFIG = """
networks:
  - name: mainnet
    local_poll_interval: 250ms
    rpc_timeout: 2s
    load_balance_priority: [chainhead]
    local_nodes:
"""


def config_for(*anvils: parts.Anvil, settings: str = "") -> str:
    """The balancer's configuration for these nodes, called ``node-1`` and so on."""
    nodes = "".join(
        f"      - {{name: node-{place}, rpc_endpoint: 'http://127.0.0.1:{anvil.port}'}}\n"
        for place, anvil in enumerate(anvils, 1)
    )
    return parts.with_ports(CONFIG + nodes + settings)


class TwoNodesTests(SynchronousTestCase):
    def begin(self, settings: str = "") -> None:
        self.anvils = parts.chain_of_anvils(2)
        for anvil in self.anvils:
            self.addCleanup(anvil.clean)
        parts.mine_all(self.anvils, 5)
        self.evmlb = parts.EvmlbProcess(config_for(*self.anvils, settings=settings))
        self.addCleanup(self.evmlb.clean)
        self.evmlb.start()
        self.url = f"{self.evmlb.url}/mainnet"

    def node(self, name: str) -> dict[str, object]:
        """What ``/nodes`` says of a node."""
        page = json.loads(parts.get(self.evmlb.admin_url + "/nodes")[1])
        [network] = page["networks"] if isinstance(page["networks"], list) else page["networks"].values()
        [node] = [node for node in network["nodes"] if node["name"] == name]
        return node

    def test_killed_under_load(self) -> None:
        """A node is killed under load, stays away, comes back and catches up: not one answer fails."""
        self.begin()
        load = Load(self.url)
        load.start()
        self.addCleanup(load.stop)
        parts.wait_until(lambda: load.answers > 200, 10, "answers before the kill")
        self.anvils[0].kill()
        before = load.answers
        parts.wait_until(lambda: load.answers > before + 500, 20, "answers while the node is dead")
        self.assertEqual(set(nodes_that_answer(self.url, 20)), {"node-2"})
        self.assertIsNone(self.node("node-1")["rank"])
        self.anvils[0].restart()
        self.anvils[0].mine(5)
        parts.wait_until(lambda: self.node("node-1")["rank"] is not None, 20, "the node to serve again")
        before = load.answers
        parts.wait_until(lambda: load.answers > before + 500, 20, "answers after its return")
        load.stop()
        self.assertEqual(load.failures, [])
        output = self.evmlb.end()
        self.assertIn("node-1", output)

    def test_behind(self) -> None:
        """A node falls 100 blocks behind: no answer comes from it, and metrics, page and log say why."""
        self.begin()
        self.assertEqual(set(nodes_that_answer(self.url, 10)), {"node-1"})
        self.anvils[1].mine(100)
        parts.wait_until(lambda: self.node("node-1")["rank"] is None, 10, "the lag to be seen")
        load = Load(self.url)
        load.start()
        self.assertEqual(set(nodes_that_answer(self.url, 300)), {"node-2"})
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertIn("behind", str(self.node("node-1")["reason"]))
        labels = f'network="mainnet",rpc_endpoint="http://127.0.0.1:{self.anvils[0].port}"'
        self.assertIn(f"loadbalancer_node_blocks_behind{{{labels}}} 100.0", self.evmlb.metrics())
        self.anvils[0].mine(100)
        parts.wait_until(lambda: self.node("node-1")["rank"] is not None, 10, "the node to be in step again")
        self.assertRegex(self.evmlb.end(), r"node-1 .*\d+ blocks behind")

    def test_another_chain_of_the_same_id(self) -> None:
        """A node of a chain that has the same id and height, and other blocks, is out, and the page says why."""
        self.begin()
        stranger = parts.Anvil()
        self.addCleanup(stranger.clean)
        stranger.start()
        stranger.mine(5, timestamp=None)
        parts.mine_all(self.anvils, 20)
        for number in range(20):
            stranger.mine(timestamp=parts.GENESIS_TIMESTAMP + 1000 + number)
        self.assertEqual(stranger.block_number(), self.anvils[0].block_number())
        evmlb = parts.EvmlbProcess(config_for(*self.anvils, stranger))
        self.addCleanup(evmlb.clean)
        evmlb.start()
        self.evmlb, self.url = evmlb, f"{evmlb.url}/mainnet"
        parts.wait_until(lambda: self.node("node-3")["other_block_at"] is not None, 10, "the blocks to be compared")
        self.assertEqual(self.node("node-3")["reason"], "other block at height 9")
        self.assertEqual((self.node("node-1")["rank"], self.node("node-3")["rank"]), (0, None))

    def test_frozen(self) -> None:
        """A node that takes connections and says nothing is asked beside another, and left; nothing fails."""
        self.begin()
        load = Load(self.url)
        load.start()
        self.addCleanup(load.stop)
        parts.wait_until(lambda: load.answers > 100, 10, "answers before")
        self.anvils[0].freeze()
        before = load.answers
        parts.wait_until(lambda: load.answers > before + 500, 20, "answers while one node stands still")
        self.anvils[0].thaw()
        load.stop()
        self.assertEqual(load.failures, [])
        self.assertLess(load.longest_seconds, 2)  # 50 ms by itself; the machine may be busy
        self.evmlb.end()

    def test_transactions_and_filters(self) -> None:
        """A transaction is sent once, and a filter keeps to its node."""
        self.begin("    strategy: shared\n")
        account = self.evmlb.rpc("mainnet", "eth_accounts")[0]
        transaction = {"from": account, "to": account, "value": "0x1"}
        sent = self.evmlb.rpc("mainnet", "eth_sendTransaction", transaction)
        nonces = [int(anvil.rpc("eth_getTransactionCount", account, "pending"), 16) for anvil in self.anvils]
        self.assertEqual(sorted(nonces), [0, 1])
        self.assertTrue(sent.startswith("0x"))
        filter_id = self.evmlb.rpc("mainnet", "eth_newBlockFilter")
        parts.mine_all(self.anvils, 3)
        self.assertEqual(len(self.evmlb.rpc("mainnet", "eth_getFilterChanges", filter_id)), 3)
        for _ in range(6):
            self.assertEqual(self.evmlb.rpc("mainnet", "eth_getFilterChanges", filter_id), [])
        self.evmlb.end()

    def test_raw_transactions(self) -> None:
        """A raw transaction that was sent before, or is mined already, is answered with its hash, by real nodes."""
        self.begin("    strategy: shared\n    broadcast_transactions: 2\n")
        key = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's own first account
        signed = Account.sign_transaction(
            {
                "to": "0x" + "11" * 20,
                "value": 1,
                "gas": 21000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
                "nonce": 0,
                "chainId": 31337,
                "type": 2,
            },
            key,
        )
        raw, transaction = "0x" + signed.raw_transaction.hex(), "0x" + signed.hash.hex()
        self.assertEqual(self.evmlb.rpc("mainnet", "eth_sendRawTransaction", raw), transaction)
        parts.wait_until(
            lambda: all(anvil.rpc("eth_getTransactionByHash", transaction) for anvil in self.anvils),
            5,
            "both to have it",
        )
        self.assertEqual(self.evmlb.rpc("mainnet", "eth_sendRawTransaction", raw), transaction)
        parts.mine_all(self.anvils, 1)
        self.assertEqual(self.evmlb.rpc("mainnet", "eth_sendRawTransaction", raw), transaction)
        self.evmlb.end()


class StartTests(SynchronousTestCase):
    def test_dead_node_delays_nothing(self) -> None:
        """With no node there at all the program starts, says so, and serves as soon as one comes."""
        anvil = parts.Anvil(free_port())
        self.addCleanup(anvil.clean)
        evmlb = parts.EvmlbProcess(config_for(anvil), until="open")
        self.addCleanup(evmlb.clean)
        evmlb.start()
        status, _ = parts.get(evmlb.admin_url + "/readyz")
        self.assertEqual(status, 503)
        anvil.start()
        parts.wait_until(lambda: parts.get(evmlb.admin_url + "/readyz")[0] == 200, 10, "the node to be found")
        self.assertEqual(evmlb.rpc("mainnet", "eth_chainId"), hex(31337))
        evmlb.end()
