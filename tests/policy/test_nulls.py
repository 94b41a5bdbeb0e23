"""When a null is doubted."""

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.nulls import is_doubtful

HASH = b'["0x' + b"ab" * 32 + b'"]'


class NullTests(SynchronousTestCase):
    def check(self, method: str, params: bytes, chainhead: int | None = 100, head: int | None = 100) -> bool:
        return is_doubtful(method, Raw(params), chainhead, head)

    def test_by_number(self) -> None:
        """A block up to the chainhead, or a tag that always names one, should be there."""
        for params, expected in (
            (b'["0x64",false]', True),
            (b'["0x0",true]', True),
            (b'["latest",false]', True),
            (b'["earliest",false]', True),
            (b'["0x65",false]', False),
            (b'["pending",false]', False),
            (b'["safe",false]', False),
            (b'["finalized",false]', False),
        ):
            self.assertEqual(self.check("eth_getBlockByNumber", params), expected, params)
        self.assertTrue(self.check("eth_getBlockReceipts", b'["0x1"]'))
        self.assertTrue(self.check("eth_getBlockTransactionCountByNumber", b'["0x1"]'))

    def test_by_hash(self) -> None:
        """What is asked for by hash is doubted only if the node is behind the chainhead."""
        for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getBlockByHash"):
            self.assertFalse(self.check(method, HASH))
            self.assertTrue(self.check(method, HASH, head=99))
        self.assertTrue(self.check("eth_getBlockReceipts", HASH, head=99))
        self.assertFalse(self.check("eth_getBlockReceipts", HASH))

    def test_other_methods(self) -> None:
        """Other methods may say null."""
        self.assertFalse(self.check("eth_getStorageAt", b'["0x1"]', head=1))
        self.assertFalse(self.check("eth_getUncleByBlockNumberAndIndex", b'["0x1","0x0"]', head=1))

    def test_unknown_heads(self) -> None:
        """Without a chainhead nothing is doubted; without a node's head nothing by hash."""
        self.assertFalse(self.check("eth_getBlockByNumber", b'["0x1"]', chainhead=None))
        self.assertFalse(self.check("eth_getTransactionReceipt", HASH, head=None))

    def test_odd_params(self) -> None:
        """Parameters that make no sense are not doubted, and break nothing."""
        for params in (
            b"",
            b"[]",
            b"{}",
            b"null",
            b"[null]",
            b"[1]",
            b"[[]]",
            b"[{}]",
            b'["0x"]',
            b'["0xzz"]',
            b"[1e999]",
        ):
            self.assertFalse(self.check("eth_getBlockByNumber", params), params)
        self.assertFalse(self.check("eth_getBlockByNumber", b'["0x%b"]' % (b"f" * 60)))
