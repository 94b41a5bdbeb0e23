"""The demo chain: linkage, reorganisation, views, determinism."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from evmlb.demo.chain import FINALIZED_DEPTH_BLOCKS, ChainView, DemoChain, matching_logs
from tests.support import run_property

RAW = bytes.fromhex("02f86b") + bytes(80)

moves = st.lists(
    st.one_of(
        st.tuples(st.just("mine"), st.integers(1, 5)),
        st.tuples(st.just("reorg"), st.integers(1, FINALIZED_DEPTH_BLOCKS)),
        st.tuples(st.just("send"), st.integers(0, 3)),
    ),
    max_size=30,
)


def grown(blocks: int = 20, **settings: int) -> DemoChain:
    chain = DemoChain(**settings)
    chain.mine_many(blocks, chain.genesis.timestamp + blocks)
    return chain


def play(chain: DemoChain, move: str, amount: int) -> None:
    now = chain.head.timestamp + 1
    if move == "mine":
        chain.mine_many(amount, now)
    elif move == "send":
        chain.send_raw(b"\x02" + bytes([amount]))
    elif amount <= chain.head.number:
        chain.reorg(amount, now, length=1 + amount % 3)


def faults_of_linkage(view: ChainView) -> list[str]:
    """What is wrong between each block of a view and its parent, by brute force."""
    wrong = []
    blocks = list(view.blocks(0, view.head.number))
    for parent, block in pairwise(blocks):
        if block.to_json()["parentHash"] != parent.to_json()["hash"]:
            wrong.append(f"{block.number}: parentHash")
        if block.number != parent.number + 1 or block.timestamp < parent.timestamp:
            wrong.append(f"{block.number}: number or timestamp")
    return wrong


class LinkageTests(SynchronousTestCase):
    def test_any_history(self) -> None:
        """After any sequence of blocks, reorgs and transactions, each block's parentHash is its parent's hash."""

        @settings(max_examples=60, deadline=None)
        @given(moves)
        def check(history: list[tuple[str, int]]) -> None:
            chain = grown(3)
            heads = [chain.head]
            for move, amount in history:
                play(chain, move, amount)
                heads.append(chain.head)
            self.assertEqual(faults_of_linkage(chain.view()), [])
            for head in heads:
                self.assertEqual(faults_of_linkage(chain.view_at(head)), [])
                self.assertIs(chain.view_at(head).block(head.number), head)

        run_property(check)

    def test_no_transaction_twice(self) -> None:
        """Whatever happens, a client's transaction is on the canonical branch once, or waits in the pool."""

        @settings(max_examples=60, deadline=None)
        @given(moves)
        def check(history: list[tuple[str, int]]) -> None:
            chain = grown(3)
            for move, amount in history:
                play(chain, move, amount)
            view = chain.view()
            mined = [t.hash for b in view.blocks(0, view.head.number) for t in b.transactions if t.raw]
            self.assertEqual(sorted(mined + [t.hash for t in chain.pending]), sorted(chain.sent))

        run_property(check)

    def test_any_change_changes_the_hash(self) -> None:
        """Chains of other seeds share no block."""
        ours, theirs = grown(5), grown(5, seed=2)
        hashes = [{b.hash for b in c.view().blocks(0, 5)} for c in (ours, theirs)]
        self.assertEqual(hashes[0] & hashes[1], set())

    def test_deterministic(self) -> None:
        """The same seed and the same calls give the same chain, reorgs included."""
        heads = []
        for _ in range(2):
            chain = grown(12)
            chain.reorg(3, chain.head.timestamp)
            chain.send_raw(RAW)
            heads.append(chain.mine(chain.head.timestamp + 5).hash)
        self.assertEqual(heads[0], heads[1])

    def test_time_never_runs_back(self) -> None:
        """A clock that steps back does not give a block an earlier timestamp than its parent's."""
        chain = grown(2)
        before = chain.head.timestamp
        self.assertEqual(chain.mine(before - 100).timestamp, before)


class ReorgTests(SynchronousTestCase):
    def test_siblings(self) -> None:
        """A reorg keeps numbers, changes hashes, and grows from the same parent."""
        chain = grown()
        old = chain.reorg(3, chain.head.timestamp)
        new = list(chain.view().blocks(old[0].number, chain.head.number))
        self.assertEqual([b.number for b in new], [b.number for b in old])
        self.assertEqual({b.hash for b in new} & {b.hash for b in old}, set())
        self.assertEqual(new[0].parent_hash, old[0].parent_hash)

    def test_old_blocks_stay_known_by_hash(self) -> None:
        """A replaced block is still found by its hash, and is no longer canonical."""
        chain = grown()
        [old] = chain.reorg(1, chain.head.timestamp)
        self.assertIs(chain.view().by_hash(old.hash), old)
        self.assertFalse(chain.is_canonical(old))

    def test_transactions_return(self) -> None:
        """A client's transaction in a replaced block is mined again, once."""
        chain = grown()
        transaction = chain.send_raw(RAW)
        chain.mine(chain.head.timestamp + 1)
        chain.reorg(1, chain.head.timestamp)
        self.assertEqual([t.hash for t in chain.head.transactions].count(transaction.hash), 1)

    def test_never_beyond_finalized(self) -> None:
        """A reorg that would replace a finalized block, or nothing, is refused."""
        chain = grown()
        for depth in (0, -1, FINALIZED_DEPTH_BLOCKS + 1):
            self.assertRaises(ValueError, chain.reorg, depth, 0.0)
        self.assertRaises(ValueError, grown(2).reorg, 3, 0.0)

    def test_refused_reorg_changes_nothing(self) -> None:
        """After a refused reorg the chain is as before."""
        chain = grown()
        before = chain.head
        self.assertRaises(ValueError, chain.reorg, 1, 0.0, length=0)
        self.assertIs(chain.head, before)
        self.assertEqual(faults_of_linkage(chain.view()), [])

    def test_logs_of_canonical_blocks_only(self) -> None:
        """The logs of a range are those of the branch that is seen, and of no other."""
        chain = grown(40)
        old = chain.reorg(8, chain.head.timestamp)
        view = chain.view()
        logs = matching_logs(list(view.blocks(0, view.head.number)), {})
        canonical = {b.hash for b in view.blocks(0, view.head.number)}
        self.assertTrue(logs)
        self.assertEqual({log["blockHash"] for log in logs} - canonical, set())
        self.assertEqual({log["blockHash"] for log in logs} & {b.hash for b in old}, set())


class ViewTests(SynchronousTestCase):
    def test_lag(self) -> None:
        """A node that lags sees an older head, and no block beyond it, by number or by hash."""
        chain = grown()
        view = chain.view(lag_blocks=5)
        self.assertEqual(view.head.number, 15)
        self.assertIsNone(view.block(16))
        self.assertIsNone(view.by_hash(chain.head.hash))

    def test_lag_beyond_the_beginning(self) -> None:
        """A lag longer than the chain ends at the genesis block."""
        self.assertEqual(grown(3).view(lag_blocks=10).head.number, 0)

    def test_replaced_branch(self) -> None:
        """A node whose head was replaced sees its own branch, and the common blocks below."""
        chain = grown()
        head = chain.head
        old = chain.reorg(2, chain.head.timestamp)
        view = chain.view_at(head)
        self.assertEqual([view.block(b.number) for b in old], list(old))
        self.assertIs(view.block(3), chain.view().block(3))

    def test_tags(self) -> None:
        """Latest, safe and finalized are in rising depth, and nothing lies before the beginning."""
        view = grown().view()
        for tag, number in (("latest", 20), ("pending", 20), ("safe", 16), ("finalized", 12), ("earliest", 0)):
            self.assertIs(view.tagged(tag), view.block(number), tag)
        early = grown(2)
        self.assertIs(early.view().tagged("finalized"), early.genesis)
        self.assertIsNone(view.tagged("newest"))

    def test_changes_over_a_reorg(self) -> None:
        """Changes since a replaced head are the blocks left, then those that came, oldest first."""
        chain = grown()
        head = chain.head
        old = chain.reorg(2, chain.head.timestamp, length=3)
        left, came = chain.view().changes_since(head)
        self.assertEqual(left, list(old))
        self.assertEqual([b.number for b in came], [19, 20, 21])

    def test_changes_of_a_node_that_fell_back(self) -> None:
        """A node that is now behind what it told reports no change."""
        chain = grown()
        self.assertEqual(chain.view(lag_blocks=4).changes_since(chain.head), ([], []))


class PruningTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """Only the newest blocks are kept, and the genesis block, however long the chain runs."""
        chain = grown(50, keep_blocks=10)
        numbers = [b.number for b in chain.view().blocks(0, 50)]
        self.assertEqual(numbers, [0, *range(41, 51)])
        self.assertIsNone(chain.view().block(30))

    def test_after_a_reorg(self) -> None:
        """Replaced blocks are pruned with their number."""
        chain = grown(20, keep_blocks=10)
        old = chain.reorg(4, chain.head.timestamp)
        chain.mine_many(30, chain.head.timestamp)
        self.assertEqual([chain.any_block(b.hash) for b in old], [None] * 4)

    def test_frozen_beyond_pruning(self) -> None:
        """A node frozen at a block that was pruned elsewhere still has its head."""
        chain = grown(20, keep_blocks=10)
        head = chain.head
        chain.mine_many(30, chain.head.timestamp)
        view = chain.view_at(head)
        self.assertIs(view.block(head.number), head)
        self.assertIsNone(view.block(head.number - 1))
