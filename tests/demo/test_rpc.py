"""JSON-RPC over the demo chain: forms, errors, methods, filters."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.demo.blocks import TRANSFER_TOPIC
from evmlb.demo.chain import DemoChain
from evmlb.demo.methods import METHODS
from evmlb.demo.rpc import DemoRpc, rpc_of
from tests.support import run_property

RAW = "0x02f86b" + "00" * 80


class RpcCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.chain = DemoChain()
        self.chain.mine_many(30, self.chain.genesis.timestamp + 30)
        self.rpc = rpc_of(self.chain)

    def ask(self, method: str, *params: Any) -> Any:
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return orjson.loads(self.rpc.answer(body))

    def result(self, method: str, *params: Any) -> Any:
        return self.ask(method, *params)["result"]

    def code(self, method: str, *params: Any) -> tuple[int, str]:
        error = self.ask(method, *params)["error"]
        return error["code"], error["message"]


class FormTests(RpcCase):
    def test_geths_order_and_newline(self) -> None:
        """An answer has jsonrpc, id and result in this order, and a newline behind."""
        answer = self.rpc.answer(b'{"id":7,"method":"eth_chainId","jsonrpc":"2.0"}')
        self.assertEqual(answer, b'{"jsonrpc":"2.0","id":7,"result":"0x539"}\n')

    def test_id_exactly(self) -> None:
        """Any id comes back byte for byte: large numbers, fractions, escapes."""
        for request_id in (b"123456789012345678901234567890", b"1.50", b'"\\u0061"', b"null", b"-0", b'""'):
            answer = self.rpc.answer(b'{"jsonrpc":"2.0","id":%b,"method":"eth_chainId"}' % request_id)
            self.assertEqual(answer, b'{"jsonrpc":"2.0","id":%b,"result":"0x539"}\n' % request_id)

    def test_notifications_are_not_answered(self) -> None:
        """A call without an id, alone or all alone in a batch, gets an empty body."""
        notification = b'{"jsonrpc":"2.0","method":"eth_chainId"}'
        self.assertEqual(self.rpc.answer(notification), b"")
        self.assertEqual(self.rpc.answer(b"[%b]" % notification), b"")

    def test_batch(self) -> None:
        """A batch is answered by an array in the order of its calls, an error where one is no call."""
        calls = b'[{"jsonrpc":"2.0","id":2,"method":"net_version"},7,{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}]'
        answers = orjson.loads(self.rpc.answer(calls))
        self.assertEqual([a["id"] for a in answers], [2, None, 1])
        self.assertEqual(answers[1]["error"]["code"], -32600)

    def test_errors_of_form(self) -> None:
        """What is no JSON, no call, or an empty batch has geth's error."""
        cases = {b"{": -32700, b"": -32700, b"[": -32700, b"[]": -32600, b"7": -32600, b"{}": -32600}
        cases |= {b'{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}': -32600}
        cases |= {b'{"jsonrpc":"2.0","id":1,"method":7}': -32600, b'{"jsonrpc":"2.0","id":{},"method":"x"}': -32600}
        cases |= {b"[" * 5000: -32700}
        for body, code in cases.items():
            self.assertEqual(orjson.loads(self.rpc.answer(body))["error"]["code"], code, body[:50])

    def test_unknown_method(self) -> None:
        """An unknown method is refused in geth's words."""
        expected = (-32601, "the method eth_magic does not exist/is not available")
        self.assertEqual(self.code("eth_magic"), expected)

    def test_missing_and_wrong_parameters(self) -> None:
        """Missing or malformed parameters are -32602."""
        wrong: list[tuple[Any, ...]] = [
            ("eth_getBalance",),
            ("eth_getBalance", "0x1"),
            ("eth_getBlockByNumber", "latest"),
        ]
        wrong += [("eth_getBlockByHash", "0x12", True), ("eth_getLogs", []), ("eth_call", 1)]
        wrong += [("eth_getBlockByNumber", "latest")]
        wrong += [("eth_getBlockByNumber", "newest", True), ("eth_getLogs", {"topics": "0x1"})]
        for method, *params in wrong:
            self.assertEqual(self.code(method, *params)[0], -32602, method)

    def test_parameters_by_name_are_refused(self) -> None:
        """An object of parameters is refused, as geth does."""
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{}}'
        self.assertEqual(orjson.loads(self.rpc.answer(body))["error"], {"code": -32602, "message": "non-array args"})

    def test_anything_is_answered(self) -> None:
        """Any method with any parameters gets a result or an error, never an exception."""
        json = st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(0, 40), st.sampled_from(["0x1", "latest", RAW, "0x", "q"])),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(st.sampled_from(["fromBlock", "topics", "address", "blockHash", "to"]), inner),
            ),
            max_leaves=8,
        )

        @settings(max_examples=200, deadline=None)
        @given(st.sampled_from(sorted(METHODS)), st.lists(json, max_size=3))
        def check(method: str, params: list[Any]) -> None:
            answer = self.ask(method, *params)
            self.assertEqual(len({"result", "error"} & set(answer)), 1)

        run_property(check)


class MethodTests(RpcCase):
    def test_head(self) -> None:
        """The block number is the number of the latest block."""
        self.assertEqual(self.result("eth_blockNumber"), "0x1e")
        self.assertEqual(self.result("eth_getBlockByNumber", "latest", False)["number"], "0x1e")

    def test_block_by_hash_and_number_agree(self) -> None:
        """A block is the same by hash and by number, its transactions whole or as hashes."""
        block = self.result("eth_getBlockByNumber", "0x5", True)
        self.assertEqual(self.result("eth_getBlockByHash", block["hash"], True), block)
        hashes = self.result("eth_getBlockByNumber", "0x5", False)["transactions"]
        self.assertEqual([t["hash"] for t in block["transactions"]], hashes)

    def test_unknown_blocks(self) -> None:
        """A block that is not there is null; state at it is "header not found"."""
        address = self.chain.accounts[0]
        self.assertIsNone(self.result("eth_getBlockByNumber", "0xfff", False))
        self.assertIsNone(self.result("eth_getBlockByHash", "0x" + "12" * 32, False))
        self.assertEqual(self.code("eth_getBalance", address, "0xfff"), (-32000, "header not found"))

    def test_state_at_a_block(self) -> None:
        """A balance at a block is reached by number, by tag and by EIP-1898 object alike."""
        address = self.chain.accounts[0]
        block = self.chain.view().block(26)
        assert block is not None
        ways = ["safe", "0x1a", {"blockNumber": "0x1a"}, {"blockHash": block.hash}]
        self.assertEqual({self.result("eth_getBalance", address, way) for way in ways}, {hex(block.balances[address])})

    def test_balances_are_conserved(self) -> None:
        """Transfers move balances and create none."""
        totals = {sum(b.balances.values()) for b in self.chain.view().blocks(0, 30)}
        self.assertEqual(len(totals), 1)

    def test_call(self) -> None:
        """A call is deterministic at a block and differs between blocks; two selectors tell number and chain id."""
        call = {"to": self.chain.token, "data": "0x70a08231"}
        self.assertEqual(self.result("eth_call", call, "0x5"), self.result("eth_call", call, "0x5"))
        self.assertNotEqual(self.result("eth_call", call, "0x5"), self.result("eth_call", call, "0x6"))
        self.assertEqual(int(self.result("eth_call", {"data": "0x42cbb15c"}, "0x5"), 16), 5)
        self.assertEqual(int(self.result("eth_call", {"input": "0x3408e470"}), 16), 1337)

    def test_revert(self) -> None:
        """The documented selector reverts with code 3, the reason in words and in data."""
        error = self.ask("eth_call", {"data": "0xdeadbeef00"})["error"]
        self.assertEqual((error["code"], error["message"][:19]), (3, "execution reverted:"))
        self.assertEqual(error["data"][:10], "0x08c379a0")
        self.assertIn(b"always reverts", bytes.fromhex(error["data"][2:]))

    def test_raw_transaction(self) -> None:
        """A raw transaction is pending, then in the next block with a receipt, and is not taken twice."""
        sent = self.result("eth_sendRawTransaction", RAW)
        self.assertIsNone(self.result("eth_getTransactionByHash", sent)["blockHash"])
        self.assertIsNone(self.result("eth_getTransactionReceipt", sent))
        self.assertEqual(self.code("eth_sendRawTransaction", RAW), (-32000, "already known"))
        block = self.chain.mine(self.chain.head.timestamp + 1)
        self.assertEqual(self.result("eth_getTransactionReceipt", sent)["blockHash"], block.hash)
        self.assertEqual(self.code("eth_sendRawTransaction", RAW), (-32000, "nonce too low"))

    def test_bytes_that_are_no_transaction(self) -> None:
        """Bytes that do not begin like a transaction are refused."""
        self.assertEqual(self.code("eth_sendRawTransaction", "0x7f")[0], -32000)
        self.assertEqual(self.code("eth_sendRawTransaction", "0x")[0], -32000)
        self.assertEqual(self.code("eth_sendRawTransaction", "abc")[0], -32602)

    def test_syncing(self) -> None:
        """A node that is done says false; one that is not reports its distance."""
        self.assertIs(self.result("eth_syncing"), False)
        self.rpc.syncing_distance_blocks = 16
        self.assertEqual(self.result("eth_syncing")["highestBlock"], "0x2e")

    def test_receipts_of_a_block(self) -> None:
        """The receipts of a block are those of its transactions."""
        block = next(b for b in self.chain.view().blocks(1, 30) if len(b.transactions) > 1)
        receipts = self.result("eth_getBlockReceipts", hex(block.number))
        self.assertEqual([self.result("eth_getTransactionReceipt", t.hash) for t in block.transactions], receipts)
        self.assertEqual(self.result("eth_getBlockReceipts", block.hash), receipts)

    def test_fee_history(self) -> None:
        """The fee history has a base fee more than blocks."""
        history = self.result("eth_feeHistory", "0x4", "latest", [])
        self.assertEqual((history["oldestBlock"], len(history["baseFeePerGas"])), ("0x1b", 5))


class LogTests(RpcCase):
    def test_range_and_criteria(self) -> None:
        """Logs are chosen by block range, address, and topics with nulls and alternatives."""
        every = {"fromBlock": "0x0", "toBlock": "0x1e"}
        logs = self.result("eth_getLogs", every)
        one = logs[0]
        self.assertTrue(len(logs) > 3)
        self.assertEqual(self.result("eth_getLogs", {**every, "address": [self.chain.token]}), logs)
        self.assertEqual(self.result("eth_getLogs", {**every, "address": self.chain.accounts[0]}), [])
        self.assertEqual(self.result("eth_getLogs", {**every, "topics": [[TRANSFER_TOPIC, one["topics"][1]]]}), logs)
        mine = self.result("eth_getLogs", {**every, "topics": [None, one["topics"][1]]})
        self.assertEqual(mine, [log for log in logs if log["topics"][1] == one["topics"][1]])
        self.assertEqual(self.result("eth_getLogs", {**every, "topics": [None, None, None, None]}), [])

    def test_by_block_hash(self) -> None:
        """Logs of one block are asked by its hash; an unknown one is "unknown block"."""
        log = self.result("eth_getLogs", {"fromBlock": "0x0"})[0]
        found = self.result("eth_getLogs", {"blockHash": log["blockHash"]})
        self.assertEqual({f["blockHash"] for f in found}, {log["blockHash"]})
        self.assertEqual(self.code("eth_getLogs", {"blockHash": "0x" + "00" * 32}), (-32000, "unknown block"))

    def test_backward_range(self) -> None:
        """A range that ends before it begins is refused."""
        self.assertEqual(self.code("eth_getLogs", {"fromBlock": "0x5", "toBlock": "0x4"})[0], -32602)

    def test_bloom_agrees(self) -> None:
        """A block with logs has a bloom that denies nothing; one without has an empty one."""
        for block in self.chain.view().blocks(0, 30):
            self.assertEqual(int(block.bloom, 16) != 0, bool(block.logs()))


class FilterTests(RpcCase):
    def test_block_filter(self) -> None:
        """A block filter tells each new block once."""
        key = self.result("eth_newBlockFilter")
        blocks = [self.chain.mine(0), self.chain.mine(0)]
        self.assertEqual(self.result("eth_getFilterChanges", key), [b.hash for b in blocks])
        self.assertEqual(self.result("eth_getFilterChanges", key), [])

    def test_log_filter_over_a_reorg(self) -> None:
        """After a reorg a log filter tells the lost logs as removed, then the new ones."""
        self.chain.mine_many(8, 0)
        key = self.result("eth_newFilter", {})
        old = self.chain.reorg(8, 0)
        logs = self.result("eth_getFilterChanges", key)
        gone = [log for log in logs if log["removed"]]
        self.assertEqual([log["blockHash"] for log in gone], [log["blockHash"] for b in old for log in b.logs()])
        self.assertTrue(gone)
        self.assertEqual(logs[: len(gone)], gone)

    def test_pending_filter(self) -> None:
        """A filter for pending transactions tells those sent since."""
        key = self.result("eth_newPendingTransactionFilter")
        sent = self.result("eth_sendRawTransaction", RAW)
        self.assertEqual(self.result("eth_getFilterChanges", key), [sent])

    def test_filter_logs(self) -> None:
        """All logs of a filter are asked by its id; a block filter has none."""
        key = self.result("eth_newFilter", {"fromBlock": "0x0"})
        self.assertEqual(self.result("eth_getFilterLogs", key), self.result("eth_getLogs", {"fromBlock": "0x0"}))
        blocks = self.result("eth_newBlockFilter")
        self.assertEqual(self.code("eth_getFilterLogs", blocks), (-32000, "filter not found"))

    def test_uninstall_and_forget(self) -> None:
        """A filter is gone once uninstalled, and with a restart."""
        key = self.result("eth_newBlockFilter")
        self.assertIs(self.result("eth_uninstallFilter", key), True)
        self.assertIs(self.result("eth_uninstallFilter", key), False)
        key = self.result("eth_newBlockFilter")
        self.rpc.forget()
        self.assertEqual(self.code("eth_getFilterChanges", key), (-32000, "filter not found"))

    def test_ids_belong_to_a_node(self) -> None:
        """No node knows another's filter."""
        other = DemoRpc(self.chain.view, client="other")
        key = self.result("eth_newBlockFilter")
        self.rpc = other
        self.result("eth_newBlockFilter")
        self.assertEqual(self.code("eth_getFilterChanges", key), (-32000, "filter not found"))
