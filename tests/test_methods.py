"""Which methods are for clients at all, and what a network may allow."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from evmlb.methods import REFUSED, Allowed, method_class

OPERATORS = """
    admin_addPeer admin_nodeInfo admin_startHTTP admin_exportChain personal_sendTransaction personal_unlockAccount
    miner_setEtherbase miner_start debug_setHead debug_startCPUProfile debug_stopCPUProfile debug_startGoTrace
    debug_writeMemProfile debug_cpuProfile debug_goTrace debug_blockProfile debug_mutexProfile debug_setGCPercent
    debug_freeOSMemory debug_chaindbCompact debug_verbosity debug_vmodule debug_stacks debug_setMemoryLimit
    debug_standardTraceBlockToFile debug_setTrieFlushInterval debug_resetHead debug_insertReceipts
    debug_deleteChainSlice debug_resyncWorldState clique_propose qbft_proposeValidatorVote perm_addNodesToAllowlist
    parity_setEngineSigner engine_newPayloadV4 engine_forkchoiceUpdatedV3 Admin_addPeer PERSONAL_sign debug_SetHead
"""
CLIENTS = """
    eth_call eth_sendTransaction debug_traceTransaction debug_traceCall debug_traceBlockByNumber debug_getRawBlock
    debug_getRawReceipts debug_storageRangeAt debug_accountRange debug_getBadBlocks debug_memStats debug_gcStats
    debug_getModifiedAccountsByNumber debug_dbGet trace_block txpool_content net_peerCount web3_clientVersion
    clique_getSigners qbft_getValidatorsByBlockNumber parity_getBlockReceipts erigon_getHeaderByNumber anvil_mine
    evm_mine administer_x minerals_x
"""


class ClassTests(SynchronousTestCase):
    def test_operators(self) -> None:
        """What changes or profiles a node, or uses its keys, is refused, in whatever case it is written."""
        for method in OPERATORS.split():
            self.assertIs(method_class(method), REFUSED, method)

    def test_clients(self) -> None:
        """What reads is not, and neither are methods that only begin alike."""
        for method in CLIENTS.split():
            self.assertIsNot(method_class(method), REFUSED, method)


class AllowedTests(SynchronousTestCase):
    def test_patterns(self) -> None:
        """Names and patterns allow; nothing allows the consensus client's methods."""
        allowed = Allowed(("admin_peers", "debug_*", "*a*b*c"))
        for method, permitted in (
            ("admin_peers", True),
            ("admin_addPeer", False),
            ("debug_setHead", True),
            ("xaxbxc", True),
            ("personal_sign", False),
        ):
            self.assertIs(allowed.permits(method), permitted, method)
        self.assertFalse(Allowed(("*",)).permits("engine_newPayloadV4"))
        self.assertTrue(Allowed(("*",)).permits("admin_peers"))
        self.assertFalse(Allowed(()).permits("admin_peers"))
