"""The demo chain: grows, reorganises itself, and shows what a node at any point of it would see.

No clock and no chance of its own: the time comes in as ``now``, and everything else follows from the seed and the
calls made, so two chains with the same history are equal to the last hash.

A :class:`ChainView` is the chain seen from one block back: what a node with that head knows. Nodes that lag, that
froze, or that sit on a branch which was replaced are nodes with another head, nothing more.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from evmlb.demo.blocks import ZERO_HASH, Block, Json, Transaction, Transfer, address_of, digest, raw_transaction

SAFE_DEPTH_BLOCKS = 4
"""How far behind the head the tag ``safe`` is."""

FINALIZED_DEPTH_BLOCKS = 8
"""How far behind the head the tag ``finalized`` is; a reorg never goes deeper."""

_ACCOUNTS = 8
_START_BALANCE_WEI = 10**24


class DemoChain:
    """A chain of blocks with real linkage.

    ``seed`` decides every made-up transaction. The newest ``keep_blocks`` blocks are kept (and the genesis block):
    older ones are pruned, so that a demo may run for days. ``start`` is the genesis block's timestamp.
    """

    def __init__(self, seed: int = 1, *, chain_id: int = 1337, start: int = 1_700_000_000, keep_blocks: int = 4096):
        self.chain_id = chain_id
        self.seed = seed
        self.accounts = tuple(address_of(f"{seed}:account:{n}") for n in range(_ACCOUNTS))
        self.token = address_of(f"{seed}:token")
        self.genesis = Block(chain_id, 0, ZERO_HASH, start, 0, (), dict.fromkeys(self.accounts, _START_BALANCE_WEI), {})
        self.sent: list[str] = []
        """Hashes of the raw transactions that clients sent, in the order of their coming."""
        self.watchers: list[Callable[[], None]] = []
        """Called after every change: a block, a reorg, a transaction in the pool."""
        self._keep_blocks = keep_blocks
        self._branches = 0
        self._pool: dict[str, Transaction] = {}
        self._canonical = {0: self.genesis}
        self._by_hash = {self.genesis.hash: self.genesis}
        self._at_number: dict[int, list[Block]] = {}
        self._blocks_of: dict[str, list[Block]] = {}
        self._head = self.genesis

    @property
    def head(self) -> Block:
        """The newest block."""
        return self._head

    @property
    def pending(self) -> tuple[Transaction, ...]:
        """Transactions sent by clients that are in no canonical block yet."""
        return tuple(self._pool.values())

    def mine(self, now: float) -> Block:
        """Add one block and return it; its timestamp is ``now`` in whole seconds, never before its parent's."""
        block = self._append(self._head, max(int(now), self._head.timestamp))
        self._tell()
        return block

    def mine_many(self, count: int, now: float) -> Block:
        """Add ``count`` blocks at once and return the head."""
        for _ in range(count):
            self.mine(now)
        return self._head

    def reorg(self, depth: int, now: float, *, length: int | None = None) -> tuple[Block, ...]:
        """Replace the newest ``depth`` blocks by ``length`` others (as many, unless told) and return the old ones.

        The new blocks are siblings: same numbers, other contents and hashes. Transactions that clients sent return
        to the pool and are mined again; made-up ones of the old branch are gone. Raises :class:`ValueError` for a
        depth that is not positive or reaches a finalized block, and for a length under 1.
        """
        length = depth if length is None else length
        if not 1 <= depth <= min(FINALIZED_DEPTH_BLOCKS, self._head.number) or length < 1:
            raise ValueError(f"cannot replace {depth} blocks by {length} at block {self._head.number}")
        old = tuple(self._canonical.pop(n) for n in range(self._head.number - depth + 1, self._head.number + 1))
        self._branches += 1
        self._head = self._by_hash[old[0].parent_hash]
        back = {t.hash: t for block in old for t in block.transactions if t.raw}
        self._pool = back | self._pool
        for position in range(length):
            replaced = old[position].timestamp if position < depth else int(now)
            self._append(self._head, max(replaced, self._head.timestamp))
        self._tell()
        return old

    def send_raw(self, raw: bytes) -> Transaction:
        """Take a client's transaction into the pool; the next block has it. Taking it twice changes nothing."""
        transaction = raw_transaction(raw)
        if transaction.hash not in self._pool and not self.is_mined(transaction.hash):
            self._pool[transaction.hash] = transaction
            self.sent.append(transaction.hash)
            self._tell()
        return transaction

    def is_pending(self, transaction_hash: str) -> bool:
        """Whether the transaction waits in the pool."""
        return transaction_hash in self._pool

    def is_mined(self, transaction_hash: str) -> bool:
        """Whether a canonical block holds the transaction."""
        return any(self.is_canonical(block) for block in self._blocks_of.get(transaction_hash, ()))

    def is_canonical(self, block: Block) -> bool:
        """Whether the block is on the branch that ends in the head."""
        return self._canonical.get(block.number) is block

    def view(self, lag_blocks: int = 0) -> ChainView:
        """The chain as a node sees it that is this many blocks behind."""
        return ChainView(self, self._canonical.get(max(0, self._head.number - lag_blocks), self.genesis))

    def view_at(self, head: Block) -> ChainView:
        """The chain as a node sees it whose head is this block, canonical or not."""
        return ChainView(self, head)

    def canonical_block(self, number: int) -> Block | None:
        """The canonical block of this number, unless pruned."""
        return self._canonical.get(number)

    def any_block(self, block_hash: str) -> Block | None:
        """The block of this hash, on whatever branch, unless pruned."""
        return self._by_hash.get(block_hash)

    def blocks_with(self, transaction_hash: str) -> list[Block]:
        """The blocks, on whatever branch, that hold the transaction."""
        return self._blocks_of.get(transaction_hash, [])

    def _tell(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()

    def _append(self, parent: Block, timestamp: int) -> Block:
        pooled = tuple(self._pool.values())
        self._pool = {}
        chance = random.Random(f"{self.seed}:{self._branches}:{parent.hash}")
        balances, nonces = dict(parent.balances), dict(parent.nonces)
        made_up = tuple(self._made_up(chance, balances, nonces) for _ in range(chance.randint(0, 4)))
        number = parent.number + 1
        block = Block(self.chain_id, number, parent.hash, timestamp, self._branches, pooled + made_up, balances, nonces)
        self._canonical[number] = block
        self._by_hash[block.hash] = block
        self._at_number.setdefault(number, []).append(block)
        for transaction in block.transactions:
            self._blocks_of.setdefault(transaction.hash, []).append(block)
        self._head = block
        self._prune(number - self._keep_blocks)
        return block

    def _made_up(self, chance: random.Random, balances: dict[str, int], nonces: dict[str, int]) -> Transaction:
        sender, recipient = chance.sample(self.accounts, 2)
        nonce = nonces.get(sender, 0)
        nonces[sender] = nonce + 1
        identity = digest("transaction", str(self.seed), str(self._branches), sender, str(nonce), str(chance.random()))
        if chance.random() < 0.5:
            transfer = Transfer(self.token, sender, recipient, chance.randint(1, 10**6))
            return Transaction(identity, sender, self.token, 0, nonce, "0xa9059cbb", transfers=(transfer,))
        value = chance.randint(1, 10**15)
        balances[sender] -= value
        balances[recipient] += value
        return Transaction(identity, sender, recipient, value, nonce)

    def _prune(self, number: int) -> None:
        for block in self._at_number.pop(number, ()):
            del self._by_hash[block.hash]
            for transaction in block.transactions:
                self._forget(transaction, block)
        if number > 0:
            self._canonical.pop(number, None)

    def _forget(self, transaction: Transaction, block: Block) -> None:
        left = [b for b in self._blocks_of[transaction.hash] if b is not block]
        if left:
            self._blocks_of[transaction.hash] = left
        else:
            del self._blocks_of[transaction.hash]


class ChainView:
    """What a node knows whose head is ``head``. Made for one request and then thrown away."""

    def __init__(self, chain: DemoChain, head: Block) -> None:
        self.chain = chain
        self.head = head
        self._branch: dict[int, Block] = {}
        block: Block | None = head
        while block is not None and not chain.is_canonical(block):
            self._branch[block.number] = block
            block = chain.any_block(block.parent_hash)

    def block(self, number: int) -> Block | None:
        """The block of this number on this view's branch; ``None`` beyond its head, and for pruned ones."""
        if not 0 <= number <= self.head.number:
            return None
        return self._branch.get(number) or self.chain.canonical_block(number)

    def tagged(self, tag: str) -> Block | None:
        """The block that a tag names here, or ``None`` if there is no such tag."""
        if tag == "earliest":
            return self.chain.genesis
        depths = {"latest": 0, "pending": 0, "safe": SAFE_DEPTH_BLOCKS, "finalized": FINALIZED_DEPTH_BLOCKS}
        if tag not in depths:
            return None
        return self.block(max(0, self.head.number - depths[tag])) or self.chain.genesis

    def by_hash(self, block_hash: str) -> Block | None:
        """The block of this hash, replaced ones too, but none that is newer than the head."""
        block = self.chain.any_block(block_hash)
        return block if block is not None and block.number <= self.head.number else None

    def is_canonical(self, block: Block) -> bool:
        """Whether the block is on this view's branch."""
        return self.block(block.number) is block

    def block_with(self, transaction_hash: str) -> Block | None:
        """The block of this view's branch that holds the transaction."""
        return next((b for b in self.chain.blocks_with(transaction_hash) if self.is_canonical(b)), None)

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """The blocks of this branch from ``first`` to ``last``, both included, without the pruned and the unknown."""
        for number in range(max(0, first), min(last, self.head.number) + 1):
            block = self.block(number)
            if block is not None:
                yield block

    def changes_since(self, last: Block) -> tuple[list[Block], list[Block]]:
        """The blocks that were left and those that came, oldest first, since ``last`` was the head.

        Both are empty while the head is merely an ancestor of ``last``: a node that fell back says nothing new.
        """
        before = self.chain.view_at(last)
        if before.is_canonical(self.head):
            return [], []
        left: list[Block] = []
        block: Block | None = last
        while block is not None and not self.is_canonical(block):
            left.insert(0, block)
            block = self.chain.any_block(block.parent_hash)
        common = block.number if block is not None else self.head.number - 1
        return left, list(self.blocks(common + 1, self.head.number))


def matching_logs(blocks: list[Block], criteria: Json, *, removed: bool = False) -> list[Json]:
    """The logs of the blocks that fit a filter's ``address`` and ``topics`` (both already checked)."""
    addresses, topics = criteria.get("address"), criteria.get("topics") or []
    return [log for block in blocks for log in block.logs(removed) if _fits(log, addresses, topics)]


def _fits(log: Json, addresses: list[str] | None, topics: list[list[str] | None]) -> bool:
    if addresses and log["address"] not in addresses:
        return False
    if len(topics) > len(log["topics"]):
        return False
    return all(not wanted or topic in wanted for wanted, topic in zip(topics, log["topics"], strict=False))
