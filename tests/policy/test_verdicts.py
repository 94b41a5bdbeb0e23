"""What the end of an attempt means: the table against what nodes really say, and against itself."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.patterns import MAX_ALL_STEPS, MAX_PATTERN, MAX_PATTERNS, MAX_STEPS
from evmlb.config.rules import (
    COLUMNS,
    CONDITION_KEYS,
    MAX_MESSAGE,
    RULE_KEYS,
    Condition,
    VerdictRule,
    builtin_rules,
)
from evmlb.errors import Fault
from evmlb.jsonrpc import Answer, AnswerKind, Call, parse_call
from evmlb.methods import FAST, SLOW, UNSAFE, MethodClass, method_class
from evmlb.policy.echoes import Echoes
from evmlb.policy.verdicts import (
    ANSWER,
    NULL_ELSEWHERE,
    OUT_OF_TIME,
    Blame,
    Verdict,
    Verdicts,
    judge_fault,
    provider_of,
)
from tests.support import run_property

VERDICTS = Verdicts()
RAW = "eth_sendRawTransaction"
CORPUS = Path(__file__).resolve().parent / "corpus"
REFERENCE = CORPUS.parent.parent.parent / "docs" / "reference" / "verdicts.md"


@dataclass(frozen=True)
class Recorded:
    """One answer of the corpus."""

    reference: str
    rule: str
    status: int = 200
    code: int = 0
    message: str = ""
    body: str | None = None
    method: str = ""
    provider: str = ""
    params: str = "[]"
    retry_after: bool = False

    @property
    def klass(self) -> MethodClass:
        return method_class(self.method) if self.method else FAST

    def judge(self, verdicts: Verdicts) -> Verdict:
        echoes = Echoes(Call(self.method, self.klass, b"1", Raw(self.params.encode())))
        context: dict[str, Any] = {"method": self.method, "klass": self.klass, "provider": self.provider}
        context |= {"echoes": echoes, "retry_after": self.retry_after}
        if self.body is not None:
            return verdicts.judge_body(self.status, self.body, **context)
        return verdicts.judge_error(self.code, self.message, status=self.status, **context)


def corpus() -> Iterator[Recorded]:
    for path in sorted(CORPUS.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text()):
            for answer in group["answers"]:
                yield Recorded(group["reference"], **{**answer, "provider": str(answer.get("provider", ""))})


def has_consequences(verdict: Verdict) -> bool:
    """Whether other requests may feel it."""
    return verdict.blame > Blame.NONE or verdict.limited or verdict.unsupported


def without_the_requests_words(text: str, recorded: Recorded) -> str:
    for word in re.findall("[a-z0-9]{3,}", f"{recorded.method} {recorded.params}".lower()):
        text = re.sub(rf"(?<![a-z0-9]){word}(?![a-z0-9])", "…" * len(word), text, flags=re.IGNORECASE)
    return text


def matches(condition: Condition, verdict: Verdict, recorded: Recorded) -> bool:
    """Whether a condition is met, said as plainly as can be: the oracle for the compiled table."""
    patterns = condition.bodies or condition.texts
    text = recorded.message if recorded.body is None else recorded.body
    if has_consequences(verdict):
        text = without_the_requests_words(text, recorded)
        of_the_request = (3, -32600, -32602, -32700, *((-32601,) if verdict.limited or verdict.blame else ()))
        if recorded.body is None and recorded.code in of_the_request and not condition.codes:
            return False
    globs = [glob.replace("*", ".*") for glob in condition.methods]
    return (
        condition.is_about_bodies == (recorded.body is not None)
        and (not condition.codes or recorded.code in condition.codes)
        and (not condition.statuses or recorded.status in condition.statuses)
        and (not condition.classes or recorded.klass in condition.classes)
        and (not condition.providers or recorded.provider in condition.providers)
        and (not condition.retry_after or recorded.retry_after)
        and (not globs or any(re.fullmatch(glob, recorded.method) for glob in globs))
        and (not patterns or any(re.search(pattern, text, re.IGNORECASE | re.ASCII) for pattern in patterns))
    )


class CorpusTests(SynchronousTestCase):
    def test_rules(self) -> None:
        """Every recorded answer matches the rule that is meant for its kind."""
        wrong = [(r, r.judge(VERDICTS).rule) for r in corpus() if r.judge(VERDICTS).rule != r.rule]
        self.assertEqual(wrong, [])

    def test_oracle(self) -> None:
        """The compiled table finds the same rule as trying each condition plainly, one after the other."""
        table = [(rule, condition) for rule in builtin_rules() for condition in rule.conditions]
        for recorded in corpus():
            first = next(rule.name for rule, condition in table if matches(condition, rule.verdict, recorded))
            self.assertEqual(recorded.judge(VERDICTS).rule, first, recorded)

    def test_size_and_references(self) -> None:
        """There are at least 150 answers, and each says where it is from."""
        answers = list(corpus())
        self.assertGreaterEqual(len(answers), 150)
        form = re.compile(r"https://\S+|[\w.-]+/[\w.-]+(#\d+| .+)")
        self.assertEqual([a.reference for a in answers if not form.match(a.reference)], [])

    def test_no_rule_is_shadowed(self) -> None:
        """Every rule is the first to match some recorded answer: none is there in vain, none hides behind another."""
        reached = {recorded.judge(VERDICTS).rule for recorded in corpus()}
        self.assertEqual({rule.name for rule in builtin_rules()} - reached, set())

    def test_every_client_and_provider(self) -> None:
        """The corpus has answers of all the clients, and of the big providers."""
        files = {path.stem for path in CORPUS.glob("*.yaml")}
        self.assertLessEqual({"geth", "nethermind", "erigon", "besu", "reth", "simulators", "providers"}, files)
        providers = {recorded.provider for recorded in corpus()}
        self.assertLessEqual({"alchemy", "infura", "quicknode", "ankr", "drpc", "chainstack", "anvil"}, providers)


class TableTests(SynchronousTestCase):
    """What the built-in rules say, by the kinds of the design."""

    def verdict(self, message: str, code: int = -32000, method: str = "eth_getBalance", **context: Any) -> Verdict:
        return VERDICTS.judge_error(code, message, method=method, klass=method_class(method), **context)

    def test_names(self) -> None:
        """A rule has its own name, its description, and a verdict that carries the name."""
        names = [rule.name for rule in builtin_rules()]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual([rule.name for rule in builtin_rules() if rule.verdict.rule != rule.name], [])
        self.assertEqual([rule.name for rule in builtin_rules() if not rule.description], [])

    def test_a_limit_is_no_rate(self) -> None:
        """EIP-1474's -32005 is a limit of the call; only words, a Retry-After or status 429 make it one of the rate."""
        for message in (
            "limit exceeded",
            "Limit exceeded",
            "Too many logs requested. Max logs per response is 1.",
            "Batch size limit exceeded",
            "Batched requests are not supported by this server",
            "max-results limit exceeded",
            "",
        ):
            verdict = self.verdict(message, -32005, status=503)
            self.assertEqual((verdict.limited, verdict.blame), (False, Blame.NONE), message)
            self.assertTrue(verdict.retry and verdict.informative and verdict.not_executed, message)
        for message in ("limit exceeded", ""):
            self.assertTrue(self.verdict(message, -32005, status=429).limited, message)
            self.assertTrue(self.verdict(message, -32005, retry_after=True).limited, message)
        for message in (
            "rate limit exceeded",
            "request rate limited",
            "daily quota exceeded",
            "50 requests per second exceeded",
            "too many requests",
            "limit exceeded, try again in 10 s",
        ):
            self.assertTrue(self.verdict(message, -32005).limited, message)
        self.assertFalse(self.verdict("generated more than the limit", -32005).limited)

    def test_too_many_at_once(self) -> None:
        """A node that takes no batch so long is not to blame; its words are kept, and others are asked."""
        for code, message in (
            (-32600, "batch too large"),
            (-32600, "batch limit 100 exceeded (can increase by --rpc.batch.limit). Requested batch of size: 101"),
            (-32005, "Batch size limit exceeded"),
            (-32005, "Batched requests are not supported by this server"),
            (-32010, "The batch request was too large"),
            (-32014, "too many RPC calls in batch request"),
        ):
            verdict = self.verdict(message, code, method="batch")
            self.assertEqual(verdict.rule, "too many at once", message)
            self.assertEqual((verdict.blame, verdict.limited), (Blame.NONE, False), message)
            self.assertTrue(verdict.retry and verdict.informative, message)

    def test_missing_data_under_code_3(self) -> None:
        """Words of missing data are no revert although the code is a revert's; a revert may say any words."""
        for message in ("Unknown block", "header not found", "missing trie node", "state is not available"):
            verdict = self.verdict(message, 3, method="eth_getBlockReceipts", status=400)
            self.assertEqual((verdict.fault, verdict.retry), (Fault.MISSING_DATA, True), message)
            reverted = self.verdict(f"execution reverted: {message}", 3, method="eth_call")
            self.assertEqual(replace(reverted, rule=""), ANSWER, message)
        for message in ("too many requests", "forbidden", "method not found", "Execution error", ""):
            self.assertEqual(replace(self.verdict(message, 3, method="eth_call"), rule=""), ANSWER, message)

    def test_simulations(self) -> None:
        """What eth_simulateV1 cannot simulate, no node can: all codes of its own, and its words."""
        for code in range(-38026, -38009):
            self.assertIsNone(self.verdict("words", code, "eth_simulateV1").fault, code)
        for message in ("block numbers must be in order: 5 <= 6", "account 0x1 is not a precompile", "too many blocks"):
            self.assertIsNone(self.verdict(message, -32000, "eth_simulateV1").fault, message)
        self.assertTrue(self.verdict("header not found", -32000, "eth_simulateV1").retry)

    def test_the_clients(self) -> None:
        """Reverts, refusals and bad parameters are the client's: nobody else is asked, nobody blamed."""
        for message in (
            "execution reverted: rate limit exceeded",
            "insufficient funds for transfer",
            "filter not found",
        ):
            self.assertEqual(replace(self.verdict(message), rule=""), ANSWER, message)
        self.assertEqual(replace(self.verdict("hex string of odd length", -32602), rule=""), ANSWER)

    def test_a_revert_with_the_code_of_an_internal_error(self) -> None:
        """-32603 with the text of a revert is the client's answer; bare, it blames."""
        revert = "VM Exception while processing transaction: revert"
        self.assertIsNone(self.verdict(revert, -32603).fault)
        bare = self.verdict("", -32603)
        self.assertEqual((bare.retry, bare.blame, bare.informative), (True, Blame.FAILURE, True))

    def test_sends(self) -> None:
        """What is known already is a success, a used nonce wants a look: for raw transactions only."""
        self.assertTrue(self.verdict("already known", method=RAW).success)
        self.assertTrue(self.verdict("nonce too low", method=RAW).verify)
        for message in ("already known", "nonce too low"):
            self.assertEqual(replace(self.verdict(message, method="eth_sendTransaction"), rule=""), ANSWER)

    def test_unknown_transaction_type(self) -> None:
        """'Unknown transaction' is not 'known transaction'."""
        self.assertFalse(self.verdict("Unknown transaction type not supported", -32602, RAW).success)

    def test_missing_data(self) -> None:
        """What is missing is asked elsewhere without blame; only what may still come is waited for."""
        for message, yet in (("header not found", True), ("missing trie node 3f (path )", False), ("pruned", False)):
            verdict = self.verdict(message)
            self.assertEqual((verdict.fault, verdict.blame), (Fault.MISSING_DATA, Blame.NONE))
            self.assertEqual((verdict.retry, verdict.not_executed, verdict.informative), (True, True, True))
            self.assertEqual((verdict.not_there_yet, verdict.retry_here), (yet, yet), message)

    def test_limits(self) -> None:
        """Rate limits hold off and do not blame; a bill that is not paid, or a key that is not good, blames."""
        limited = self.verdict("slow down", 429)
        self.assertEqual((limited.fault, limited.limited, limited.blame), (Fault.RATE_LIMITED, True, Blame.NONE))
        for message in ("Monthly capacity limit exceeded.", "invalid api key"):
            verdict = self.verdict(message)
            self.assertEqual((verdict.limited, verdict.blame, verdict.retry), (False, Blame.FAILURE, True))

    def test_codes_of_besu(self) -> None:
        """Codes that others use for limits and methods are transactions' at Besu: the text decides before the code."""
        for code, message in (
            (-32004, "Upfront cost exceeds account balance"),
            (-32005, "Transaction gas limit exceeds block gas limit"),
        ):
            self.assertEqual(self.verdict(message, code).rule, "transaction refused")

    def test_methods(self) -> None:
        """A method that a node lacks is remembered, and the client gets the usual code; dRPC's is not remembered."""
        verdict = self.verdict("Method eth_foo is not supported", -32004)
        self.assertEqual((verdict.fault, verdict.unsupported, verdict.client_code), (Fault.UNSUPPORTED, True, -32601))
        self.assertFalse(self.verdict("unsupported method", provider="drpc").unsupported)

    def test_ranges(self) -> None:
        """A range that is too large for a node could be split."""
        verdict = self.verdict("query returned more than 10000 results", -32005, "eth_getLogs")
        self.assertEqual((verdict.fault, verdict.split, verdict.blame), (Fault.REJECTED, True, Blame.NONE))

    def test_timeouts(self) -> None:
        """A node that gives up is asked last where it should have been quick; slow calls blame nobody."""
        self.assertEqual(self.verdict("execution timeout").blame, Blame.SUSPECT)
        slow = self.verdict("execution timeout", method="debug_traceTransaction")
        self.assertEqual((slow.blame, slow.retry), (Blame.NONE, True))

    def test_unknown(self) -> None:
        """An error that no rule knows is asked elsewhere, blames nobody, and is shown when nothing better comes."""
        verdict = self.verdict("something nobody has seen", 12345)
        self.assertEqual((verdict.rule, verdict.retry, verdict.blame), ("unknown error", True, Blame.NONE))
        self.assertEqual((verdict.informative, verdict.not_executed), (True, False))

    def test_anything(self) -> None:
        """Every code, message, status, method and provider has a verdict of the table, and nothing is raised."""
        klasses = st.sampled_from(tuple(MethodClass))

        @given(st.integers(), st.text(), st.integers(), st.text(), klasses, st.text())
        def check(code: int, text: str, status: int, method: str, klass: MethodClass, provider: str) -> None:
            context: dict[str, Any] = {"method": method, "klass": klass, "provider": provider}
            self.assertTrue(VERDICTS.judge_error(code, text, status=status, **context).rule)
            self.assertIsNotNone(VERDICTS.judge_body(status, text, **context).fault)

        run_property(check)

    def test_long_messages(self) -> None:
        """What a message says after its first thousand characters is not looked at."""
        self.assertEqual(self.verdict("x" * (MAX_MESSAGE - 16) + "header not found").rule, "not there yet")
        self.assertEqual(self.verdict("x" * (MAX_MESSAGE - 15) + "header not found").rule, "unknown error")


class OrderTests(SynchronousTestCase):
    def rule(self, name: str, verdict: Verdict, **condition: Any) -> VerdictRule:
        return VerdictRule(name=name, verdict=replace(verdict, rule=name), conditions=(Condition(**condition),))

    def test_own_rules_come_first(self) -> None:
        """A rule of the user's is tried before the built-in ones, and leaves the rest to them."""
        verdicts = Verdicts([self.rule("mine", ANSWER, texts=("header not found",), providers=frozenset({"geth"}))])
        self.assertEqual(verdicts.judge_error(-32000, "header not found", provider="geth").rule, "mine")
        self.assertEqual(verdicts.judge_error(-32000, "header not found").rule, "not there yet")

    def test_first_match_wins(self) -> None:
        """Of two rules that match, the first counts."""
        verdicts = Verdicts([self.rule("a", ANSWER, texts=("head",)), self.rule("b", ANSWER, texts=("header",))])
        self.assertEqual(verdicts.judge_error(0, "HEADER").rule, "a")

    def test_every_part_counts(self) -> None:
        """A condition is met only when each of its parts is."""
        verdicts = Verdicts(
            [
                self.rule(
                    "all",
                    ANSWER,
                    codes=frozenset({7}),
                    texts=("x", "y"),
                    statuses=frozenset({500}),
                    methods=("eth_get*", "net_*"),
                    classes=frozenset({FAST}),
                    providers=frozenset({"geth"}),
                    retry_after=True,
                )
            ]
        )
        good: dict[str, Any] = {"status": 500, "method": "eth_getBalance", "klass": FAST, "provider": "geth"}
        good["retry_after"] = True
        self.assertEqual(verdicts.judge_error(7, "a y", **good).rule, "all")
        self.assertNotEqual(verdicts.judge_error(8, "a y", **good).rule, "all")
        self.assertNotEqual(verdicts.judge_error(7, "a z", **good).rule, "all")
        for other in (
            {"status": 200},
            {"method": "eth_call"},
            {"klass": SLOW},
            {"provider": ""},
            {"retry_after": False},
        ):
            self.assertNotEqual(verdicts.judge_error(7, "a y", **{**good, **other}).rule, "all", other)


PHRASES = (
    "too many requests",
    "rate limit exceeded",
    "limited to 5/s",
    "forbidden",
    "Unauthorized",
    "invalid api key",
    "monthly quota",
    "method not found",
    "unsupported method",
    "not implemented",
    "namespace eth is disabled",
    "service unavailable",
    "timed out",
    "timeout",
    "internal error",
    "is not available on the free tier",
    "error code: 1015",
)
"""What rules with consequences look for."""

POLITE = (
    (-32602, "invalid type: string {}, expected a boolean at line 1 column 27"),
    (-32602, "unknown variant {}, expected one of `newHeads`, `logs`"),
    (-32602, "invalid argument 0: {}"),
    (-32602, "Could not convert string to integer: {}. Path '', line 1, position 5."),
    (-32600, "Invalid request: {}"),
    (-32700, "invalid character {} looking for beginning of value"),
    (-32601, "the method {} does not exist/is not available"),
    (-32601, "no {} subscription in eth namespace"),
    (-32000, "time: invalid duration {}"),
    (-32000, "ReferenceError: {} is not defined at <eval>:1:2(0)"),
    (-32000, "invalid {}"),
)
"""What nodes make of a request that is wrong."""

QUOTES = (
    str,
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: json.dumps(json.dumps(text)),
    repr,
    ascii,
    html.escape,
    str.upper,
    str.lower,
    lambda text: "`" + text[:30] + "...",
    lambda text: '"' + text[:9],
    lambda text: "..." + text[-12:],
    lambda text: " ".join(text.split()),
)
"""How they repeat it."""


class EchoTests(SynchronousTestCase):
    """No client takes a node from the others by what it writes."""

    def judge(self, code: int, message: str, method: str = "eth_call", params: object = (), **more: Any) -> Verdict:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return VERDICTS.judge_error(code, message, echoes=Echoes(parse_call(json.dumps(request).encode())), **more)

    def test_whatever_is_echoed(self) -> None:
        """Of a polite error nobody is blamed or held off, and only -32601 is remembered, whatever it repeats."""
        glue = st.sampled_from(("", " ", "\n", '"', "\\", "\t\x00", "é", "😀", "_", "x", "'", "%20"))
        piece = st.sampled_from(PHRASES) | st.text(max_size=6)
        hostile = st.lists(st.tuples(glue, piece), min_size=1, max_size=4).map(lambda all_: "".join(map("".join, all_)))
        places = st.sampled_from(("method", "value", "key", "nested"))

        @given(hostile, places, st.sampled_from(POLITE), st.sampled_from(QUOTES))
        def check(words: str, place: str, polite: tuple[int, str], quote: Any) -> None:
            code, form = polite
            method, params = "eth_call", [{"to": "0x" + "ab" * 20}, "latest"]
            if place == "method" and words.isprintable() and 0 < len(words) <= 256:
                method = words
            else:
                params += [{"value": words, "key": {words: 1}, "nested": [[{"a": [words]}]]}.get(place, words)]
            verdict = self.judge(code, form.format(quote(words)), method, params)
            self.assertEqual((verdict.limited, verdict.blame), (False, Blame.NONE), verdict.rule)
            self.assertEqual(verdict.unsupported, code == -32601, verdict.rule)

        run_property(check)

    def test_the_nodes_own_words(self) -> None:
        """What a node says itself counts, also beside what it repeats."""
        for message in ("too many requests", "eth_call: rate limit exceeded for 'latest'"):
            self.assertTrue(self.judge(-32000, message, params=["latest"]).limited, message)
        self.assertTrue(self.judge(-32000, "method eth_foo is not available", "eth_foo").unsupported)
        self.assertTrue(self.judge(-32000, "the forbidden: too many requests", "forbidden").limited)

    def test_rules_without_consequences(self) -> None:
        """Only those that others would feel are careful: a tag that is named is no reason to forget what it means."""
        verdict = self.judge(-32000, "finalized block not found", "eth_getBlockByNumber", ["finalized", False])
        self.assertEqual(verdict.rule, "block tag unsupported")

    def test_batches(self) -> None:
        """A batch may repeat what any of its members said, in any of its answers."""
        members = [{"jsonrpc": "2.0", "id": i, "method": "eth_call", "params": [word]} for i, word in enumerate("xy")]
        members[1]["params"] = ["too many requests"]
        echoes = Echoes(parse_call(json.dumps(members).encode()))
        answer = Answer(AnswerKind.ERROR, -32000, 'bad value "too many requests"')
        self.assertTrue(VERDICTS.judge_answer(200, answer).limited)
        self.assertFalse(VERDICTS.judge_answer(200, answer, echoes=echoes).limited)

    def test_pages(self) -> None:
        """So is it with a page that shows the path it was asked for."""
        page = "<h1>Cannot POST /v1/error code: 1015</h1>"
        self.assertTrue(VERDICTS.judge_body(404, page).limited)
        self.assertFalse(VERDICTS.judge_body(404, page, echoes=Echoes(None, b"/error%20code:%201015")).limited)

    def test_codes_of_the_request(self) -> None:
        """Codes that speak of the request are a node's limit, and its fault, only where a rule names them."""
        for code in (-32602, -32600, -32700, 3):
            for message in ("too many requests", "forbidden", "method not found", "timed out", "service unavailable"):
                self.assertFalse(has_consequences(VERDICTS.judge_error(code, message)), (code, message))
        for message in ("too many requests", "forbidden", "monthly quota", "service unavailable", ""):
            self.assertEqual(VERDICTS.judge_error(-32601, message).rule, "method unsupported", message)

    def test_codes_that_are_named(self) -> None:
        """One's own rule that names such a code counts, one that does not leaves it alone; so do good statuses."""
        limited = Verdict(Fault.RATE_LIMITED, retry=True, limited=True, rule="mine")
        for codes, rule in ((frozenset({-32602}), "mine"), (frozenset(), "invalid request")):
            condition = Condition(codes=codes, texts=("slow down",))
            verdicts = Verdicts([VerdictRule(name="mine", verdict=limited, conditions=(condition,))])
            self.assertEqual(verdicts.judge_error(-32602, "slow down").rule, rule)
            self.assertEqual(verdicts.judge_error(-32000, "slow down").rule == "mine", not codes)
        for status, rule in ((429, "rate limited"), (402, "billing"), (403, "unauthorized by status")):
            self.assertEqual(VERDICTS.judge_error(-32600, "no", status=status).rule, rule)

    def test_too_much_said(self) -> None:
        """Of a request with too many words nothing is believed; what needs no words stays."""
        many = [" ".join(f"word{i}" for i in range(3000))]
        for params in (many, ["x" * 70_000], ["0x" + "ab" * 40_000], ["\n" * 600], [" " * 20_000]):
            self.assertFalse(self.judge(-32000, "too many requests", params=params).limited)
        for params in (["0x" + "ab" * 30_000], [f"0x{i:040x}" for i in range(1000)]):
            self.assertTrue(self.judge(-32000, "too many requests", params=params).limited)
        self.assertTrue(self.judge(-32029, "too many requests", params=many).limited)
        self.assertTrue(self.judge(-32000, "too many requests", params=many, status=429).limited)


class AnswerTests(SynchronousTestCase):
    def test_results(self) -> None:
        """A result, and a null, is the client's, whatever the status."""
        for kind in (AnswerKind.RESULT, AnswerKind.NULL):
            for status in (200, 404, 500):
                self.assertIs(VERDICTS.judge_answer(status, Answer(kind)), ANSWER)

    def test_errors(self) -> None:
        """A JSON-RPC error is judged by its body, whatever the status; with what is known of the call and the node."""
        error = Answer(AnswerKind.ERROR, -32000, "already known")
        for status in (200, 400, 500):
            self.assertEqual(VERDICTS.judge_answer(status, error, method=RAW).rule, "transaction known")
        limit = Answer(AnswerKind.ERROR, -32007, "")
        self.assertTrue(VERDICTS.judge_answer(200, limit, provider="quicknode").limited)
        timeout = Answer(AnswerKind.ERROR, -32000, "timed out")
        self.assertEqual(VERDICTS.judge_answer(200, timeout, klass=SLOW).rule, "slow call timed out")

    def test_errors_without_words(self) -> None:
        """An error that says nothing, or what nobody knows, is judged by a status that does."""
        for status, rule in ((402, "billing"), (429, "rate limited"), (403, "unauthorized by status")):
            self.assertEqual(VERDICTS.judge_answer(status, Answer(AnswerKind.ERROR, 0, "")).rule, rule)

    def test_statuses(self) -> None:
        """A body that is no JSON-RPC is judged by its status."""
        for status, fault, blame, limited, not_executed in (
            (200, Fault.GARBAGE, Blame.FAILURE, False, False),
            (204, Fault.GARBAGE, Blame.FAILURE, False, False),
            (301, Fault.HTTP_ERROR, Blame.FAILURE, False, False),
            (400, Fault.REJECTED, Blame.NONE, False, True),
            (401, Fault.UNAUTHORIZED, Blame.FAILURE, False, True),
            (402, Fault.UNAUTHORIZED, Blame.FAILURE, False, True),
            (403, Fault.UNAUTHORIZED, Blame.FAILURE, False, True),
            (404, Fault.HTTP_ERROR, Blame.FAILURE, False, True),
            (405, Fault.HTTP_ERROR, Blame.FAILURE, False, True),
            (413, Fault.REJECTED, Blame.NONE, False, True),
            (415, Fault.REJECTED, Blame.NONE, False, True),
            (422, Fault.REJECTED, Blame.NONE, False, True),
            (429, Fault.RATE_LIMITED, Blame.NONE, True, True),
            (500, Fault.HTTP_ERROR, Blame.FAILURE, False, False),
            (503, Fault.HTTP_ERROR, Blame.FAILURE, False, False),
            (999, Fault.HTTP_ERROR, Blame.FAILURE, False, False),
        ):
            verdict = VERDICTS.judge_answer(status, Answer(AnswerKind.GARBAGE))
            self.assertTrue(verdict.retry)
            self.assertEqual(
                (verdict.fault, verdict.blame, verdict.limited, verdict.not_executed),
                (fault, blame, limited, not_executed),
                status,
            )

    def test_pages(self) -> None:
        """The words of a page count only where a rule asks for them: limits and bills."""
        garbage = Answer(AnswerKind.GARBAGE)
        self.assertEqual(VERDICTS.judge_answer(500, garbage, text="<h1>header not found</h1>").rule, "bad status")
        self.assertTrue(VERDICTS.judge_answer(403, garbage, text="Rate limit reached").limited)
        self.assertEqual(VERDICTS.judge_answer(429, garbage, text="monthly quota used up").rule, "billing")

    def test_the_end(self) -> None:
        """A line feed at the end of a page, or of a message, is not looked at."""
        rules = [
            VerdictRule(name="page", verdict=Verdict(rule="page"), conditions=(Condition(bodies=("^forbidden$",)),)),
            VerdictRule(name="error", verdict=Verdict(rule="error"), conditions=(Condition(texts=("^forbidden$",)),)),
        ]
        for end, is_met in (("", True), ("\n", True), ("\n\n", False), ("!", False)):
            self.assertEqual(Verdicts(rules).judge_body(403, f"forbidden{end}").rule == "page", is_met, end)
            self.assertEqual(Verdicts(rules).judge_error(0, f"forbidden{end}").rule == "error", is_met, end)

    def test_half_a_surrogate_pair(self) -> None:
        """What is no Unicode, NUL too, is judged like all else."""
        rule = VerdictRule(name="odd", verdict=Verdict(rule="odd"), conditions=(Condition(texts=("^a.b.$",)),))
        self.assertEqual(Verdicts([rule]).judge_error(0, "a\ud800b\x00").rule, "odd")

    def test_opaque(self) -> None:
        """For what is not JSON-RPC only gateway errors and limits are tried elsewhere; nobody is blamed or held off."""
        for status in (200, 204, 301, 400, 404, 500, 501):
            self.assertIs(VERDICTS.judge_status(status), ANSWER)
        for status in (429, 502, 503, 504):
            verdict = VERDICTS.judge_status(status)
            self.assertEqual((verdict.retry, verdict.blame, verdict.limited), (True, Blame.NONE, False))


class FaultTests(SynchronousTestCase):
    def test_transport(self) -> None:
        """Transport faults blame and are tried elsewhere; unsafe calls only if nothing can have been received."""
        for fault in (Fault.UNREACHABLE, Fault.DISCONNECTED, Fault.GARBAGE, Fault.STALLED, Fault.TIMED_OUT):
            verdict = judge_fault(fault, FAST)
            self.assertEqual((verdict.retry, verdict.blame), (True, Blame.FAILURE))
            self.assertTrue(verdict.permits_retry(True))
            self.assertEqual(verdict.permits_retry(False), fault is Fault.UNREACHABLE)
            self.assertTrue(judge_fault(fault, UNSAFE, sent=False).permits_retry(False))

    def test_slow_timeout(self) -> None:
        """A slow call's timeout is neither repeated nor blamed; its other faults are."""
        self.assertIs(judge_fault(Fault.TIMED_OUT, SLOW), OUT_OF_TIME)
        self.assertEqual((OUT_OF_TIME.retry, OUT_OF_TIME.blame), (False, Blame.NONE))
        self.assertTrue(judge_fault(Fault.STALLED, SLOW).blame)

    def test_null(self) -> None:
        """A doubted null is asked elsewhere without blame, is worth showing, and may still become more."""
        null = NULL_ELSEWHERE
        self.assertEqual((null.retry, null.blame, null.informative), (True, Blame.NONE, True))
        self.assertTrue(null.not_there_yet)

    def test_permits_retry(self) -> None:
        """What permits no retry permits none for any call."""
        self.assertFalse(Verdict(not_executed=True).permits_retry(True))


class ProviderTests(SynchronousTestCase):
    def test_configured(self) -> None:
        """What is configured counts, in lower case."""
        self.assertEqual(provider_of("mainnet.infura.io", "Geth/v1.13", "Alchemy"), "alchemy")

    def test_hosts(self) -> None:
        """A provider is known by the end of the host's name, whole labels only."""
        for host, provider in (
            ("eth-mainnet.g.alchemy.com", "alchemy"),
            ("eth-mainnet.alchemyapi.io.", "alchemy"),
            ("MAINNET.INFURA.IO", "infura"),
            ("broken-icy-mountain.quiknode.pro", "quicknode"),
            ("rpc.ankr.com", "ankr"),
            ("lb.drpc.org", "drpc"),
            ("ethereum-mainnet.core.chainstack.com", "chainstack"),
            ("nd-1.p2pify.com", "chainstack"),
            ("ethereum-rpc.publicnode.com", "publicnode"),
            ("cloudflare-eth.com", "cloudflare"),
            ("eth.rpc.hypersync.xyz", "envio"),
            ("notalchemy.com", ""),
            ("alchemy.com.example.net", ""),
            ("localhost", ""),
            ("10.0.0.1", ""),
            ("", ""),
        ):
            self.assertEqual(provider_of(host, None, None), provider, host)

    def test_clients(self) -> None:
        """Otherwise the client's family counts, by its own name for itself."""
        for version, client in (
            ("Geth/v1.13.14-stable-2bd6bd01/linux-amd64/go1.21.7", "geth"),
            ("op-geth/v1.101411.0/linux-amd64", "op-geth"),
            ("Nethermind/v1.25.4+20b10b35/linux-x64/dotnet8.0.2", "nethermind"),
            ("erigon/3.0.0/linux-amd64/go1.23", "erigon"),
            ("besu/v24.1.0/linux-x86_64/openjdk-java-17", "besu"),
            ("reth/v1.1.0/x86_64-unknown-linux-gnu", "reth"),
            ("anvil/v0.2.0", "anvil"),
            ("HardhatNetwork/2.22.0/@ethereumjs/vm/6", "hardhat"),
            ("bor/v1.2.3/linux-amd64", "bor"),
            ("nitro/v2.3.0/linux-amd64", "nitro"),
            ("Unheard/of", ""),
            ("", ""),
            (None, ""),
        ):
            self.assertEqual(provider_of("10.0.0.1", version, None), client, version)


class DocumentTests(SynchronousTestCase):
    """The reference page says what the table and the readers say."""

    def rows(self, heading: str) -> list[list[str]]:
        section = REFERENCE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
        return [re.split(r" \| ", line.strip("| \n")) for line in section.splitlines() if line.startswith("| ")][2:]

    def test_rules(self) -> None:
        """Every built-in rule has its row, in order, with its description and its columns."""
        rows = self.rows("Built-in rules")
        self.assertEqual([row[:2] for row in rows], [[rule.name, rule.description] for rule in builtin_rules()])
        for (_, _, said), rule in zip(rows, builtin_rules(), strict=True):
            columns = {
                column: value.name.lower() if isinstance(value, Blame) else getattr(value, "value", value)
                for column, value in asdict(rule.verdict).items()
                if value and column != "rule"
            }
            words = [column if value is True else f"{column} {value}" for column, value in columns.items()]
            self.assertEqual(said, ", ".join(words) or "the answer is for the client", rule.name)

    def test_keys(self) -> None:
        """Every part of a condition and every column has its row."""
        for heading, keys in (("A rule", RULE_KEYS), ("when", CONDITION_KEYS), ("then", COLUMNS)):
            self.assertEqual({row[0].strip("`") for row in self.rows(heading)}, set(keys), heading)

    def test_numbers(self) -> None:
        """The bounds and the corpus are as large as the page says."""
        page = " ".join(REFERENCE.read_text().split())
        for number in (
            f"the first {MAX_MESSAGE} characters",
            f"at most {MAX_PATTERN} characters",
            f"at most {MAX_STEPS:,} steps",
            f"{MAX_ALL_STEPS:,} in all",
            f"{MAX_PATTERNS} texts and bodies",
            f"has {len(list(corpus()))} error answers",
        ):
            self.assertIn(number, page)
