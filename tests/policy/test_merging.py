"""What several verdicts come to."""

from twisted.trial.unittest import SynchronousTestCase

from evmlb.policy.merging import merged, worth
from evmlb.policy.verdicts import ANSWER, NULL_ELSEWHERE, Blame, Verdicts

VERDICTS = Verdicts()
VAGUE = (
    (-32603, "Internal error"),
    (-32000, "something in words that no rule knows"),
    (-32601, "the method eth_simulateV1 does not exist/is not available"),
)
TELLING = (
    (-32000, "missing trie node"),
    (-32602, "block range extends beyond current head block"),
    (-32005, "Too many logs requested. Max logs per response is 1."),
    (-32005, "limit exceeded"),
)


class WorthTests(SynchronousTestCase):
    def test_what_says_what_is_wrong_is_worth_more(self) -> None:
        """Known words about the data or the limit tell a client more than vague ones, whatever the order."""
        for vague in VAGUE:
            for telling in TELLING:
                self.assertLess(worth(VERDICTS.judge_error(*vague)), worth(VERDICTS.judge_error(*telling)), vague)

    def test_who_blames_its_node_loses(self) -> None:
        """An answer that blames its node loses to every one that does not."""
        blaming = worth(VERDICTS.judge_error(-32603, "Internal error"))
        for others in (*VAGUE[1:], *TELLING):
            self.assertLess(blaming, worth(VERDICTS.judge_error(*others)), others)
        self.assertLess(blaming, worth(NULL_ELSEWHERE))

    def test_the_clients_own_is_worth_most(self) -> None:
        """What every node would say is worth more than anything that one of them lacks."""
        for others in (*VAGUE, *TELLING):
            self.assertGreater(worth(ANSWER), worth(VERDICTS.judge_error(*others)), others)


class MergedTests(SynchronousTestCase):
    def test_words_of_the_most_telling(self) -> None:
        """A batch's verdict is in the words of the member that tells most; it blames only if all members do."""
        internal, pruned = (VERDICTS.judge_error(*said) for said in (VAGUE[0], TELLING[0]))
        for both in ((internal, pruned), (pruned, internal)):
            self.assertEqual((merged(both).rule, merged(both).blame), ("pruned", Blame.NONE))
        self.assertEqual(merged((internal, internal)).blame, Blame.FAILURE)

    def test_columns(self) -> None:
        """It blames, or holds off, only when all members do; and what is about one call it says of none."""

        def columns(*codes: int) -> tuple[object, ...]:
            verdict = merged([VERDICTS.judge_error(code, "x") for code in codes])
            return (verdict.retry, verdict.blame, verdict.informative, verdict.not_executed, verdict.limited)

        self.assertEqual(columns(-32603, -32603), (True, Blame.FAILURE, True, False, False))
        self.assertEqual(columns(-32603, -32601), (True, Blame.NONE, True, False, False))
        self.assertEqual(columns(-32601, -32601), (True, Blame.NONE, True, True, False))
        self.assertEqual(columns(-32029, -32029), (True, Blame.NONE, False, True, True))
        self.assertEqual(columns(-32029, -32603), (True, Blame.NONE, True, False, False))
        self.assertFalse(merged([VERDICTS.judge_error(-32601, "x")] * 2).unsupported)

    def test_one(self) -> None:
        """Of one verdict everything stays."""
        verdict = VERDICTS.judge_error(*VAGUE[2])
        self.assertIs(merged((verdict,)), verdict)
