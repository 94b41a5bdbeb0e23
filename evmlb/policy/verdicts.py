"""What the end of an attempt means: may it be tried elsewhere, and is the node to blame?

Those are two separate questions. A node that has pruned the state asked for should be passed over for this request and
thought no less of; a node that answers 500 should be passed over *and* asked last. A verdict
(:class:`~evmlb.config.rules.Verdict`) answers both, and a few more, each in a column of its own.

The verdicts on errors are data: an ordered table of rules, ``verdicts.yaml``, which the configuration may extend. The
first rule that matches wins. A body that is JSON-RPC is judged by its body, whatever the status; one that is not, by
the rules about statuses. The texts are those of geth, Nethermind, Erigon, Besu, Reth, anvil, hardhat and of providers.

What a client writes comes back in errors, and must not take nodes from others. So a rule with consequences for the node
(it is blamed, held off, or not asked for the method any more) finds no text in the request's own words
(:mod:`evmlb.policy.echoes`), and does not match the codes that speak of the request unless it names them.

Only errors come here, so that matching costs nothing while answers are fine. Most texts are plain words, looked for in
the message as such; before a pattern is tried, the longest words that it demands are. Over the answers
in tests/policy/corpus an error takes 14 us on average, and 40 us at most. Patterns are matched in linear time, whatever
a node says (:mod:`evmlb.config.patterns`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import replace

from evmlb.config.patterns import is_plain, searcher, words_of
from evmlb.config.rules import MAX_MESSAGE, Blame, Condition, Verdict, VerdictRule, builtin_rules
from evmlb.errors import Fault
from evmlb.jsonrpc import Answer, AnswerKind
from evmlb.methods import FAST, MethodClass
from evmlb.policy.echoes import NOTHING_SAID, Echoes

__all__ = [
    "ANSWER",
    "NULL_ELSEWHERE",
    "OUT_OF_TIME",
    "Blame",
    "Verdict",
    "VerdictRule",
    "Verdicts",
    "judge_fault",
    "provider_of",
]

ANSWER = Verdict()
"""The node's answer goes to the client as it is, be it a result or an error that is the client's own."""

OUT_OF_TIME = Verdict(Fault.TIMED_OUT)
"""The verdict on time that is up without anybody's fault: the whole request's, or a slow call's."""

NULL_ELSEWHERE = Verdict(Fault.NULL, retry=True, informative=True, not_there_yet=True)
"""The verdict on a null where the chainhead says that there should be something: ask elsewhere, blame nobody."""

_UNKNOWN = Verdict(Fault.RPC_ERROR, retry=True, informative=True)
_BAD_STATUS = Verdict(Fault.HTTP_ERROR, retry=True, blame=Blame.FAILURE)
_OF_THE_REQUEST = frozenset((-32700, -32600, -32602, 3))
_NO_SUCH_METHOD = -32601
"""Codes that say what is wrong with the request, not with the node: those of the JSON-RPC specification (5.1), and 3,
under which contracts say what they like."""
_GATEWAY_STATUSES = frozenset((429, 502, 503, 504))

_FAULTS: dict[Fault, Verdict] = {
    **{fault: Verdict(fault, retry=True) for fault in Fault},
    Fault.UNREACHABLE: Verdict(Fault.UNREACHABLE, retry=True, blame=Blame.FAILURE, not_executed=True),
    Fault.DISCONNECTED: Verdict(Fault.DISCONNECTED, retry=True, blame=Blame.FAILURE),
    Fault.TIMED_OUT: Verdict(Fault.TIMED_OUT, retry=True, blame=Blame.FAILURE),
    Fault.STALLED: Verdict(Fault.STALLED, retry=True, blame=Blame.FAILURE),
    Fault.GARBAGE: Verdict(Fault.GARBAGE, retry=True, blame=Blame.FAILURE),
}
"""Every fault has a verdict. What says nothing of the node's state (unsupported, rejected) blames nobody."""


def judge_fault(fault: Fault, klass: MethodClass, *, sent: bool = True) -> Verdict:
    """The verdict on an attempt that brought no answer.

    A slow call that runs out of time is neither repeated nor held against the node: it may simply be slow. ``sent``
    False: the node surely did not receive the request, whatever the fault.
    """
    if klass is MethodClass.SLOW and fault is Fault.TIMED_OUT:
        return OUT_OF_TIME
    verdict = _FAULTS[fault]
    return verdict if sent else replace(verdict, not_executed=True)


# -- the table, compiled


class _Texts:
    """Patterns, any of which may be found in a text."""

    __slots__ = ("_patterns", "_words")

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = tuple(pattern.lower() for pattern in patterns if is_plain(pattern))
        self._patterns = tuple((words_of(pattern), searcher(pattern)) for pattern in patterns if not is_plain(pattern))

    def are_in(self, lower: str) -> bool:
        """Whether any is found in a text, which is given in lower case."""
        for words in self._words:  # loops of our own: with any() both take nearly twice as long
            if words in lower:
                return True
        for words, is_found in self._patterns:  # noqa: SIM110
            if words in lower and is_found(lower):
                return True
        return False


class _Row:
    """One condition of a rule, and the rule's verdict."""

    __slots__ = ("_condition", "_methods", "codes", "has_consequences", "is_narrow", "not_codes", "texts", "verdict")

    def __init__(self, condition: Condition, verdict: Verdict) -> None:
        self._condition = condition
        self._methods = tuple(re.compile(fnmatch.translate(glob)).match for glob in condition.methods)
        self.verdict = verdict
        self.codes = condition.codes
        self.is_narrow = bool(
            condition.statuses or condition.methods or condition.classes or condition.providers or condition.retry_after
        )
        patterns = condition.bodies or condition.texts
        self.texts = _Texts(patterns) if patterns and "^" not in patterns else None  # any message has a beginning
        self.has_consequences = bool(verdict.blame or verdict.limited or verdict.unsupported)
        self.not_codes = frozenset() if condition.codes else _codes_not_matched(verdict)

    def is_said(self, lower: str, echoes: Echoes) -> bool:
        """Whether its texts are in what a node said, given in lower case, and not merely in what the client did."""
        if self.texts is None:
            return True
        return self.texts.are_in(lower) and (not self.has_consequences or self.texts.are_in(echoes.blank(lower)))

    def concerns(self, status: int, method: str, klass: MethodClass, provider: str, retry_after: bool) -> bool:
        """Whether it is about such requests to such nodes, and such a head of the answer, whatever the answer says."""
        condition = self._condition
        return (
            (not condition.statuses or status in condition.statuses)
            and (not condition.classes or klass in condition.classes)
            and (not condition.providers or provider in condition.providers)
            and (not condition.retry_after or retry_after)
            and (not self._methods or any(match(method) for match in self._methods))
        )


def _codes_not_matched(verdict: Verdict) -> frozenset[int]:
    """The codes that a condition without codes does not match when this is the verdict."""
    if verdict.blame or verdict.limited:
        return _OF_THE_REQUEST | {_NO_SUCH_METHOD}
    return _OF_THE_REQUEST if verdict.unsupported else frozenset()


def _looked_at(text: str) -> str:
    """What rules see of a text. Pages end with a line end, before which ``$`` is met: it is left out."""
    return text[:MAX_MESSAGE].removesuffix("\n").lower()


class Verdicts:
    """The table, compiled: the given rules before the built-in ones.

    Nothing here raises, whatever a node says; of long texts the first :data:`~evmlb.config.rules.MAX_MESSAGE`
    characters are looked at.
    """

    def __init__(self, rules: Sequence[VerdictRule] = ()) -> None:
        table = [(condition, rule.verdict) for rule in (*rules, *builtin_rules()) for condition in rule.conditions]
        self._of_errors = tuple(_Row(*row) for row in table if not row[0].is_about_bodies)
        self._of_bodies = tuple(_Row(*row) for row in table if row[0].is_about_bodies)

    def judge_error(
        self,
        code: int,
        message: str,
        *,
        status: int = 200,
        method: str = "",
        klass: MethodClass = FAST,
        provider: str = "",
        retry_after: bool = False,
        echoes: Echoes = NOTHING_SAID,
    ) -> Verdict:
        """The verdict on a JSON-RPC error. ``provider`` is as :func:`provider_of` has it.

        ``retry_after``: the answer came with that header.
        """
        lower = _looked_at(message)
        for row in self._of_errors:
            if (row.codes and code not in row.codes) or code in row.not_codes:
                continue
            if row.is_narrow and not row.concerns(status, method, klass, provider, retry_after):
                continue
            if row.is_said(lower, echoes):
                return row.verdict
        return _UNKNOWN

    def judge_body(
        self,
        status: int,
        text: str = "",
        *,
        method: str = "",
        klass: MethodClass = FAST,
        provider: str = "",
        retry_after: bool = False,
        echoes: Echoes = NOTHING_SAID,
    ) -> Verdict:
        """The verdict on an answer without JSON-RPC. ``text``: the beginning of its body, as far as it is known."""
        lower = _looked_at(text)
        for row in self._of_bodies:
            if row.concerns(status, method, klass, provider, retry_after) and row.is_said(lower, echoes):
                return row.verdict
        return _BAD_STATUS

    def judge_answer(
        self,
        status: int,
        answer: Answer,
        *,
        text: str = "",
        method: str = "",
        klass: MethodClass = FAST,
        provider: str = "",
        retry_after: bool = False,
        echoes: Echoes = NOTHING_SAID,
    ) -> Verdict:
        """The verdict on an answer. ``text``: the beginning of a body that is no JSON-RPC, as far as it is known."""
        if answer.kind is AnswerKind.ERROR:
            return self.judge_error(
                answer.code,
                answer.message,
                status=status,
                method=method,
                klass=klass,
                provider=provider,
                retry_after=retry_after,
                echoes=echoes,
            )
        if answer.kind is AnswerKind.GARBAGE:
            return self.judge_body(
                status,
                text,
                method=method,
                klass=klass,
                provider=provider,
                retry_after=retry_after,
                echoes=echoes,
            )
        return ANSWER

    def judge_status(self, status: int) -> Verdict:
        """The verdict on an answer to something that is not JSON-RPC: the status is all there is to judge by.

        Neither blames nor holds off: the same node may do well what it is there for.
        """
        if status in _GATEWAY_STATUSES:
            return replace(self.judge_body(status), blame=Blame.NONE, limited=False)
        return ANSWER


# -- whose dialect

_DOMAINS = {
    "alchemy.com": "alchemy",
    "alchemyapi.io": "alchemy",
    "ankr.com": "ankr",
    "blastapi.io": "blast",
    "blockpi.network": "blockpi",
    "chainstack.com": "chainstack",
    "p2pify.com": "chainstack",
    "cloudflare-eth.com": "cloudflare",
    "conduit.xyz": "conduit",
    "drpc.org": "drpc",
    "dwellir.com": "dwellir",
    "getblock.io": "getblock",
    "hypersync.xyz": "envio",
    "infura.io": "infura",
    "llamarpc.com": "llamarpc",
    "merkle.io": "merkle",
    "nodereal.io": "nodereal",
    "onfinality.io": "onfinality",
    "pokt.network": "pocket",
    "publicnode.com": "publicnode",
    "quiknode.pro": "quicknode",
    "quicknode.com": "quicknode",
    "rpcfast.com": "rpcfast",
    "tatum.io": "tatum",
    "tenderly.co": "tenderly",
    "thirdweb.com": "thirdweb",
    "1rpc.io": "1rpc",
}
"""The provider behind each domain."""

_CLIENTS = (  # the first that the name contains; op-geth before geth
    "op-geth",
    "op-erigon",
    "op-reth",
    "nitro",
    "bor",
    "nethermind",
    "erigon",
    "besu",
    "reth",
    "geth",
    "anvil",
    "hardhat",
)


def provider_of(host: str, client_version: str | None, configured: str | None) -> str:
    """Whose dialect a node speaks: a short lower-case name, empty when nothing tells.

    As configured; else the provider whose domain the host is under; else the client's family, by the name before the
    first slash of its ``web3_clientVersion``.
    """
    if configured:
        return configured.lower()
    labels = host.lower().rstrip(".").split(".")
    for i in range(len(labels) - 1):
        provider = _DOMAINS.get(".".join(labels[i:]))
        if provider is not None:
            return provider
    name = (client_version or "").partition("/")[0].lower()
    return next((client for client in _CLIENTS if client in name), "")
