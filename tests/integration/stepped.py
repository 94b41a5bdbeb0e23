"""Real nodes with one chain: mined, reorged, killed, frozen and brought back, in step.

Equal commands make equal blocks, to the hash: each node's time is given, and its randomness goes by the blocks that it
has mined. So a node that stood still does what it has missed, and one that was killed does everything again. One that
went its own way takes over the others' state, which has their blocks in it, but no way back: no reorg may go below it.
"""

from __future__ import annotations

from typing import Any

from tests.integration.mirror import Head, Log
from tests.integration.parts import GENESIS_TIMESTAMP, Anvil, chain_of_anvils

_RUNTIME = bytes.fromhex("365f5f375f35365fa100")
"""CALLDATACOPY(0, 0, CALLDATASIZE); LOG1(0, CALLDATASIZE, CALLDATALOAD(0)): what it is called with becomes a log."""
_INIT = b"\x69" + _RUNTIME + bytes.fromhex("5f52600a6016f3")  # PUSH10 runtime; MSTORE(0); RETURN(22, 10)
_GAS = hex(200_000)


class SteppedChain:
    """Nodes, and the contract at ``contract`` that logs what it is called with. Block 1 has made it."""

    def __init__(self, nodes: int = 2) -> None:
        self.nodes = chain_of_anvils(nodes)
        self._in_step: list[Anvil] = list(self.nodes)
        self._commands: list[tuple[str, tuple[Any, ...]]] = []
        self._stopped_at: dict[Anvil, int] = {}
        self._converted: set[Anvil] = set()
        self._time = GENESIS_TIMESTAMP
        self._calls = 0
        self._account = self.leader.rpc("eth_accounts")[0]
        self._do("eth_sendTransaction", {"from": self._account, "data": "0x" + _INIT.hex(), "gas": _GAS})
        self.mine(0)
        [made] = self.leader.rpc("eth_getBlockByNumber", "latest", False)["transactions"]
        self.contract: str = self.leader.rpc("eth_getTransactionReceipt", made)["contractAddress"]

    @property
    def leader(self) -> Anvil:
        """One of those in step that never went another way: what it says is the chain."""
        return next(anvil for anvil in self._in_step if anvil not in self._converted)

    # in step

    def mine(self, logs: int = 1) -> None:
        """One block with so many logs, on all."""
        for _ in range(logs):
            self._do("eth_sendTransaction", self._call())
        self._time += 1
        self._do("evm_mine", self._time)
        self._check()

    def replace(self, depth: int, logs: int = 1) -> None:
        """As many other blocks in the place of the last ones, in one go, each with so many logs."""
        calls = [[self._call(), block] for block in range(depth) for _ in range(logs)]
        self._do("anvil_reorg", depth, calls)
        self._check()

    def roll_back(self, depth: int) -> None:
        """Take the last blocks away; what is mined next is another branch."""
        self._do("anvil_rollback", depth)
        self._check()

    def _do(self, method: str, *params: Any) -> None:
        self._commands.append((method, params))
        for anvil in self._in_step:
            anvil.rpc(method, *params)

    def _call(self) -> dict[str, str]:
        self._calls += 1
        return {"from": self._account, "to": self.contract, "data": f"0x{self._calls:064x}", "gas": _GAS}

    def _check(self) -> None:
        heads = {_head_of(anvil) for anvil in self._in_step}
        assert len(heads) == 1, f"the nodes are no longer one chain: {heads}"

    # out of step

    def kill(self, anvil: Anvil) -> None:
        """End a node at once; :meth:`bring_back` starts it again."""
        if anvil in self._in_step:
            self._in_step.remove(anvil)
        anvil.kill()

    def bring_back(self, anvil: Anvil) -> None:
        """Start a killed node again: it is empty, and does everything that the others did."""
        anvil.restart()
        self._converted.discard(anvil)
        self._catch_up(anvil, 0)

    def freeze(self, anvil: Anvil) -> None:
        """Let a node stand still, with its connections; :meth:`thaw` lets it go on."""
        self._in_step.remove(anvil)
        self._stopped_at[anvil] = len(self._commands)
        anvil.freeze()

    def thaw(self, anvil: Anvil) -> None:
        """Let it go on, and do what it has missed."""
        anvil.thaw()
        self._catch_up(anvil, self._stopped_at.pop(anvil))

    def _catch_up(self, anvil: Anvil, done: int) -> None:
        for method, params in self._commands[done:]:
            anvil.rpc(method, *params)
        self._in_step.append(anvil)
        self._check()

    def stray(self, anvil: Anvil, depth: int, blocks: int) -> str:
        """Let a node replace its last blocks by others, each with a log, that only it has; the hash of the last one.

        It comes back by :meth:`reconcile`, once the others have at least as many new logs (nonces never go back), or
        by :meth:`kill` and :meth:`bring_back`.
        """
        self._in_step.remove(anvil)
        anvil.rpc("anvil_rollback", depth)
        for _ in range(blocks):
            anvil.rpc("eth_sendTransaction", self._call())
            self._time += 1  # for all: no node mines into its own past
            anvil.rpc("evm_mine", self._time)
        return _head_of(anvil)

    def reconcile(self, anvil: Anvil) -> None:
        """Give a node that strayed the others' chain."""
        anvil.rpc("anvil_loadState", self.leader.rpc("anvil_dumpState"))
        self._converted.add(anvil)
        self._in_step.append(anvil)
        self._check()

    # what there is to know in the end

    def heads(self) -> list[Head]:
        """All blocks of the chain, block 0 first."""
        last = self.leader.block_number()
        blocks = [self.leader.rpc("eth_getBlockByNumber", hex(number), False) for number in range(last + 1)]
        return [Head(int(block["number"], 16), block["hash"], block["parentHash"]) for block in blocks]

    def logs(self) -> list[Log]:
        """All logs of the chain, in order."""
        found = self.leader.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.contract})
        return [Log(int(log["blockNumber"], 16), log["blockHash"], int(log["logIndex"], 16)) for log in found]

    def clean(self) -> None:
        """Kill all."""
        for anvil in self.nodes:
            anvil.clean()


def _head_of(anvil: Anvil) -> str:
    """The hash of its newest block."""
    return str(anvil.rpc("eth_getBlockByNumber", "latest", False)["hash"])
