"""Reading verdict rules: good ones, and each fault with path and line."""

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config import tree
from evmlb.config.patterns import MAX_ALL_STEPS, MAX_PATTERN, MAX_PATTERNS
from evmlb.config.reading import Place, Reading
from evmlb.config.rules import Blame, Condition, VerdictRule, builtin_rules, read_rules
from evmlb.errors import Fault
from evmlb.methods import FAST, UNSAFE

GOOD = """
- name: mine
  description: >
    What is said here
    comes in one line.
  when:
    - {status: [429, 5xx], code: [-32000, 7], text: too busy, methods: [eth_*, net_version], class: [fast, unsafe]}
    - {provider: Alchemy, text: ["a+ b", c]}
    - {status: any, body: gone fishing}
  then:
    fault: rate_limited
    retry: yes
    blame: suspect
    limited: true
    client_code: -32005
"""


def read(text: str) -> tuple[tuple[VerdictRule, ...], list[str]]:
    """The rules in a text, and its faults as ``LINE path: message``."""
    reading = Reading({})
    rules = read_rules(Place(reading, "verdicts", tree.parse_tree(text) or tree.Sequence(1)))
    return rules, [f"{fault.line} {fault.path}: {fault.message}" for fault in (*reading.faults, *reading.unknown)]


class ReadingTests(SynchronousTestCase):
    def test_good(self) -> None:
        """Everything that a rule can say arrives in its value."""
        (rule,), faults = read(GOOD)
        self.assertEqual(faults, [])
        self.assertEqual((rule.name, rule.description), ("mine", "What is said here comes in one line."))
        first, second, third = rule.conditions
        self.assertEqual(first.statuses, frozenset({429, *range(500, 600)}))
        self.assertEqual(first.codes, frozenset({-32000, 7}))
        self.assertEqual((first.texts, first.methods), (("too busy",), ("eth_*", "net_version")))
        self.assertEqual(first.classes, frozenset({FAST, UNSAFE}))
        self.assertEqual(second, Condition(providers=frozenset({"alchemy"}), texts=("a+ b", "c")))
        self.assertEqual((third.statuses, third.bodies), (frozenset(range(100, 1000)), ("gone fishing",)))
        self.assertEqual([c.is_about_bodies for c in rule.conditions], [False, False, True])
        verdict = rule.verdict
        self.assertEqual((verdict.rule, verdict.fault, verdict.retry), ("mine", Fault.RATE_LIMITED, True))
        self.assertEqual((verdict.blame, verdict.limited, verdict.client_code), (Blame.SUSPECT, True, -32005))
        self.assertFalse(verdict.informative)

    def test_without_columns(self) -> None:
        """A rule without columns leaves the answer to the client."""
        (rule,), faults = read("[{name: a, when: {code: 1}}]")
        self.assertEqual((faults, rule.verdict.fault, rule.verdict.retry), ([], None, False))

    def test_inherit(self) -> None:
        """A rule takes over the verdict of a built-in rule, or of one above it, and changes some columns."""
        (a, b), faults = read(
            "- {name: a, inherit: pruned, when: {text: x}, then: {blame: suspect}}\n"
            "- {name: b, inherit: a, when: {text: y}, then: {fault: none, retry: no, blame: none}}"
        )
        self.assertEqual(faults, [])
        self.assertEqual((a.verdict.fault, a.verdict.retry, a.verdict.rule), (Fault.MISSING_DATA, True, "a"))
        self.assertEqual((a.verdict.blame, a.verdict.informative), (Blame.SUSPECT, True))
        self.assertEqual((b.verdict.fault, b.verdict.retry, b.verdict.blame), (None, False, Blame.NONE))
        self.assertTrue(b.verdict.informative)

    def test_client_code_is_taken_back(self) -> None:
        """``none`` takes an inherited code back."""
        (rule,), _ = read("[{name: a, inherit: method unsupported, when: {code: 1}, then: {client_code: none}}]")
        self.assertIsNone(rule.verdict.client_code)

    def test_faults(self) -> None:
        """Whatever cannot be meant is a fault that says where it is and what was expected."""
        for text, expected in (
            ("[{when: {code: 1}}]", "1 verdicts[0]: expected the key name"),
            ("[{name: a}]", "1 verdicts[0]: expected the key when"),
            ("[{name: a, when: {}}]", "1 verdicts[0].when: expected at least one of status, code, text"),
            ("[{name: a, when: [{code: 1}, 7]}]", "1 verdicts[0].when[1]: expected keys and values"),
            ("[7]", "1 verdicts[0]: expected keys and values"),
            ("[{name: a, when: {code: x}}]", "1 verdicts[0].when.code: expected a whole number"),
            ("[{name: a, when: {status: 42}}]", "1 verdicts[0].when.status: expected an HTTP status"),
            ("[{name: a, when: {status: [200, x]}}]", "1 verdicts[0].when.status[1]: expected an HTTP status"),
            ('[{name: a, when: {text: "(x"}}]', "1 verdicts[0].when.text: expected a regular expression of RE2"),
            (
                "[{name: a, when: {body: [x, (?=x)]}}]",
                "1 verdicts[0].when.body[1]: expected a regular expression of RE2",
            ),
            ("[{name: a, when: {text: '.{,40}x'}}]", "1 verdicts[0].when.text: expected a repeat with both bounds"),
            (
                "[{name: a, when: {text: '.{999}'}}]",
                "1 verdicts[0].when.text: expected a regular expression of at most",
            ),
            (f"[{{name: a, when: {{text: .{'x' * MAX_PATTERN}}}}}]", "1 verdicts[0].when.text: expected a regular"),
            (
                '[{name: a, when: {code: 1, methods: "eth getBalance"}}]',
                "1 verdicts[0].when.methods: expected a method",
            ),
            ("[{name: a, when: {class: quick}}]", "1 verdicts[0].when.class: expected one of fast, slow, unsafe"),
            ("[{name: a, when: {provider: a.b}}]", "1 verdicts[0].when.provider: expected the name of a provider"),
            ("[{name: a, when: {code: 1, body: x}}]", "1 verdicts[0].when.body: expected no code and no text"),
            (
                "[{name: a, when: {text: x, retry: yes}}]",
                "1 verdicts[0].when.retry: unknown key; it belongs under then",
            ),
            ("[{name: a, text: x, when: {code: 1}}]", "1 verdicts[0].text: unknown key; it belongs under when"),
            ("[{name: a, when: {code: 1}, than: {}}]", "1 verdicts[0].than: unknown key; did you mean then?"),
            ("[{name: a, when: {cod: 1}}]", "1 verdicts[0].when.cod: unknown key; did you mean code?"),
            ("[{name: a, when: {code: 1}, then: {retri: yes}}]", "1 verdicts[0].then.retri: unknown key; did you mean"),
            ("[{name: a, when: {code: 1}, then: {fault: gone}}]", "1 verdicts[0].then.fault: expected one of"),
            ("[{name: a, when: {code: 1}, then: {blame: all}}]", "1 verdicts[0].then.blame: expected one of none, sus"),
            ("[{name: a, when: {code: 1}, then: {retry: 7}}]", "1 verdicts[0].then.retry: expected true or false"),
            ("[{name: a, when: {code: 1}, then: {retry: yes}}]", "1 verdicts[0].then: expected a fault beside"),
            ("[{name: a, when: {code: 1}, then: {blame: failure}}]", "1 verdicts[0].then: expected a fault beside"),
            (
                "[{name: a, when: {code: 1}, then: {fault: null, success: yes, limited: yes}}]",
                "1 verdicts[0].then: expected a fault beside",
            ),
            (
                "[{name: a, when: {code: 1}, then: {fault: garbage, success: yes}}]",
                "1 verdicts[0].then: expected no fault beside",
            ),
            (
                "[{name: a, inherit: prund, when: {code: 1}}]",
                "1 verdicts[0].inherit: expected the name of a rule above",
            ),
            ("- name: a\n  when:\n    code: 1\n  then:\n    blame: much", "5 verdicts[0].then.blame: expected one of"),
        ):
            _, faults = read(text)
            self.assertTrue(any(fault.startswith(expected) for fault in faults), (text, faults))

    def test_did_you_mean(self) -> None:
        """A name that is nearly one is told."""
        self.assertIn("did you mean pruned?", read("[{name: a, inherit: prund, when: {code: 1}}]")[1][0])

    def test_a_wrong_rule_does_not_hide_others(self) -> None:
        """All faults are told at once, and a later rule may inherit from a good one."""
        _, faults = read("- {name: a, when: {code: x}}\n- {name: b, when: {status: x}}\n- {name: c, when: {code: 3}}")
        self.assertEqual(
            [fault.split(":")[0] for fault in faults], ["1 verdicts[0].when.code", "2 verdicts[1].when.status"]
        )

    def test_too_many_patterns(self) -> None:
        """All the patterns together are bounded, by number and by steps."""
        for count, text, end in (
            (MAX_PATTERNS + 1, "words", f"at most {MAX_PATTERNS} texts and bodies in all the rules"),
            (30, "'x{999}'", f"at most {MAX_ALL_STEPS:,} steps in all the rules"),
        ):
            halves = [", ".join([text] * part) for part in (count // 2, count - count // 2)]
            rules = f"- {{name: a, when: {{text: [{halves[0]}]}}}}\n- {{name: b, when: {{body: [{halves[1]}]}}}}"
            (fault,) = read(rules)[1]
            self.assertTrue(fault.startswith("1 verdicts: expected") and end in fault, fault)
        self.assertEqual(read(f"[{{name: a, when: {{text: [{', '.join(['words'] * MAX_PATTERNS)}]}}}}]")[1], [])

    def test_no_fault_twice(self) -> None:
        """What could not be read does not also make the rest a contradiction."""
        for text, path in (
            ("[{name: a, when: {code: 1}, then: {fault: gone, retry: yes}}]", "verdicts[0].then.fault"),
            ("[{name: a, inherit: prund, when: {code: 1}, then: {retry: yes}}]", "verdicts[0].inherit"),
        ):
            self.assertEqual([fault.split(":")[0] for fault in read(text)[1]], [f"1 {path}"])

    def test_builtin(self) -> None:
        """The built-in table has no fault, and is read only once."""
        self.assertGreater(len(builtin_rules()), 30)
        self.assertIs(builtin_rules(), builtin_rules())
