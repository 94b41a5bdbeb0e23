"""``evmlb classify``: an error in any form is understood, and what would happen is said in words."""

import io
import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from evmlb.classify import Context, Finding, classify, consequences, main_classify
from evmlb.cli import main
from evmlb.config.rules import Blame, Condition, Verdict, VerdictRule
from evmlb.errors import Fault
from evmlb.jsonrpc import AnswerKind

OWN = """
networks:
  - name: n
    local_nodes: [rpc_endpoint: http://a]
verdicts:
  - name: house rule
    description: what our nodes say
    when: {text: out of coffee}
    then: {fault: rpc_error, retry: true}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FormTests(SynchronousTestCase):
    """In which forms an error may come."""

    def find(self, given: str, **known: Any) -> Finding:
        (finding,) = classify(given, Context(**known))
        return finding

    def rule(self, given: str, **known: Any) -> str:
        return self.find(given, **known).verdict.rule

    def test_words(self) -> None:
        """Words are an error's message, with the usual code unless another is given."""
        finding = self.find("header not found")
        self.assertEqual((finding.answer.kind, finding.answer.code), (AnswerKind.ERROR, -32000))
        self.assertEqual(finding.verdict.rule, "not there yet")
        self.assertEqual(self.find("header not found", code=7).answer.code, 7)
        self.assertEqual(self.rule("anything at all", code=-32601), "method unsupported")
        self.assertEqual(self.rule('"header not found"'), "not there yet")

    def test_json(self) -> None:
        """An error object, alone or in an answer, brings its own code; an answer's id may be anything."""
        error = {"code": -32601, "message": "odd words"}
        for form in (error, {"jsonrpc": "2.0", "id": [1], "error": error}, {"error": error}):
            finding = self.find(json.dumps(form))
            self.assertEqual((finding.answer.code, finding.answer.message), (-32601, "odd words"), form)
            self.assertEqual(finding.verdict.rule, "method unsupported")
        self.assertEqual(self.find(json.dumps(error), code=5).answer.code, 5)

    def test_batch(self) -> None:
        """Each answer of a batch is judged on its own, and a result among them is none to judge."""
        batch = [
            {"id": 1, "error": {"code": -32000, "message": "header not found"}},
            {"id": 2, "result": "0x1"},
            {"id": 3, "error": {"code": 3, "message": "execution reverted"}},
        ]
        found = list(classify(json.dumps(batch), Context()))
        self.assertEqual([finding.verdict.rule for finding in found], ["not there yet", "", "reverted"])
        self.assertIsNone(found[1].rule)

    def test_bodies(self) -> None:
        """A page, words beside a bad status, and JSON of another kind are bodies that are no JSON-RPC."""
        self.assertEqual(self.rule("<html><h1>502 Bad Gateway</h1></html>", status=502), "bad status")
        self.assertEqual(self.rule("<html>sign in</html>"), "no JSON-RPC")
        self.assertEqual(self.rule("", status=404), "not served here")
        self.assertEqual(self.find('{"message": "no"}', status=413).text, '{"message": "no"}')
        self.assertEqual(self.rule('{"message": "no"}', status=413), "request rejected")
        self.assertEqual(self.rule("header not found", status=503), "bad status")
        self.assertEqual(self.rule("header not found", status=503, code=-32000), "not there yet")

    def test_any_text(self) -> None:
        """What nobody would send is classified all the same."""
        for given in (
            "[]",
            "{}",
            "null",
            "1",
            "[[]]",
            "[" * 100_000,
            '{"error": 5}',
            '{"error": {"code": []}}',
            "\x00",
        ):
            for finding in classify(given, Context()):
                self.assertIsNotNone(finding.rule, given[:20])

    def test_context(self) -> None:
        """Method and provider decide where rules ask for them."""
        self.assertEqual(self.rule("nonce too low", method="eth_sendRawTransaction"), "nonce used")
        self.assertNotEqual(self.rule("nonce too low", method="eth_call"), "nonce used")
        drpc = "Unable to perform request"
        condition = Condition(texts=(drpc,), providers=frozenset({"drpc"}))
        rules = (VerdictRule(name="one's own", verdict=Verdict(), conditions=(condition,)),)
        (hit,), (miss,) = (classify(drpc, Context(provider=name), rules) for name in ("drpc", "infura"))
        self.assertEqual(hit.rule, rules[0])
        self.assertFalse(hit.is_builtin)
        self.assertTrue(miss.is_builtin)


class ConsequenceTests(SynchronousTestCase):
    """What the columns amount to."""

    def said(self, **columns: Any) -> str:
        return "; ".join(consequences(Verdict(**columns)))

    def test_the_clients(self) -> None:
        """Without a fault the answer is the client's, as it is or after a look."""
        self.assertIn("gets the answer as it is; no other node is asked", self.said())
        self.assertIn("told of success", self.said(success=True))
        self.assertIn("looked up", self.said(verify=True))
        self.assertIn("not blamed", self.said())

    def test_retries(self) -> None:
        """Whether another node is asked, and this one again."""
        fault = Fault.RPC_ERROR
        self.assertIn("no other node is asked", self.said(fault=fault))
        self.assertIn("unless the call must not be sent twice", self.said(fault=fault, retry=True))
        self.assertIn("whatever the call", self.said(fault=fault, retry=True, not_executed=True))
        self.assertNotIn("again after", self.said(fault=fault, retry=True))
        here: dict[str, Any] = {"fault": fault, "retry": True, "retry_here": True}
        self.assertIn("nodes are asked again after a pause", self.said(**here))
        self.assertNotIn("again after", self.said(**here, informative=True))
        self.assertIn("once more after a part of a block time", self.said(fault=fault, retry=True, not_there_yet=True))

    def test_the_node(self) -> None:
        """What becomes of the node."""
        fault = Fault.RPC_ERROR
        self.assertIn("node is not blamed", self.said(fault=fault))
        self.assertNotIn("breaker", self.said(fault=fault, blame=Blame.SUSPECT))
        self.assertIn("asked last", self.said(fault=fault, blame=Blame.SUSPECT))
        self.assertIn("breaker", self.said(fault=fault, blame=Blame.FAILURE))
        self.assertIn("until its limit is over", self.said(fault=fault, limited=True))
        self.assertIn("not asked for this method", self.said(fault=fault, unsupported=True))
        self.assertIn("ranges are not split yet", self.said(fault=fault, split=True))

    def test_the_clients_words(self) -> None:
        """Whose words the client gets when nobody answered better."""
        fault = Fault.RPC_ERROR
        self.assertIn("an error of evmlb's own", self.said(fault=fault))
        self.assertIn("the node's own words", self.said(fault=fault, informative=True))
        self.assertIn("with the code -32601", self.said(fault=fault, informative=True, client_code=-32601))


class CommandTests(SynchronousTestCase):
    """The command as a whole."""

    def classify(
        self, text: str | None = None, *, stdin: str | None = None, config: str | None = None, **known: Any
    ) -> tuple[int, str, str]:
        """Status, output and complaints."""
        out, err = io.StringIO(), io.StringIO()
        as_json = known.pop("as_json", False)
        source = Terminal() if stdin is None else io.StringIO(stdin)
        context = Context(**known)
        status = main_classify(text, context, config=config, as_json=as_json, stdin=source, out=out, err=err)
        return status, out.getvalue(), err.getvalue()

    def configured(self, text: str) -> str:
        path = self.mktemp()
        Path(path).write_text(text)
        return path

    def test_text(self) -> None:
        """It says how the error was understood, the rule, the columns, and what would happen."""
        status, out, err = self.classify("missing trie node 0a (path )", method="eth_getBalance")
        self.assertEqual((status, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual(lines[0], "error -32000: missing trie node 0a (path )")
        self.assertEqual(lines[1], "rule: pruned (built in)")
        self.assertTrue(lines[2].startswith("  "))
        self.assertIn("fault ", lines[3])
        self.assertIn("- the node is not blamed", lines)

    def test_result(self) -> None:
        """A result is told to be none, and matches no rule."""
        _, out, _ = self.classify('{"jsonrpc": "2.0", "id": 1, "result": "0x1"}')
        self.assertTrue(out.startswith("a result, not an error\n"))
        self.assertNotIn("rule:", out)

    def test_long_words(self) -> None:
        """A page of any length is shown in a line that can be read, with why it is no JSON-RPC."""
        _, out, _ = self.classify("<p>" + "x\n" * 10_000, status=503)
        self.assertLess(len(out.splitlines()[0]), 400)
        self.assertTrue(out.startswith("HTTP 503, no JSON-RPC"))

    def test_json(self) -> None:
        """For programs: an object per error, with every column of the verdict."""
        _, out, _ = self.classify(stdin="header not found\n\nexecution reverted\n", as_json=True)
        first, second = (json.loads(line) for line in out.splitlines())
        self.assertEqual((first["rule"], second["rule"]), ("not there yet", "reverted"))
        self.assertEqual((first["kind"], first["code"], first["built_in"]), ("error", -32000, True))
        self.assertEqual(set(first["verdict"]), set(Verdict.__dataclass_fields__) - {"rule"})
        self.assertEqual((first["verdict"]["blame"], first["verdict"]["not_there_yet"]), ("none", True))
        self.assertIsNone(second["verdict"]["fault"])
        self.assertTrue(second["consequences"])
        _, out, _ = self.classify("<p>", status=503, as_json=True)
        body = json.loads(out)
        self.assertEqual((body["kind"], body["code"], body["message"], body["status"]), ("body", None, "<p>", 503))

    def test_standard_input(self) -> None:
        """It holds one JSON value of many lines, one page, or an error per line."""
        for stdin, expected in (
            ('{\n"code": 3,\n"message": "execution reverted"\n}\n', 1),
            ("<html>\n<body>\nno\n", 1),
            ('{"code": 3, "message": "execution reverted"}\nheader not found\n', 2),
        ):
            status, out, _ = self.classify(stdin=stdin)
            self.assertEqual((status, out.count("rule: ")), (0, expected), stdin)

    def test_only_status(self) -> None:
        """A status or a code is enough, even at a terminal."""
        self.assertIn("rule: bad status", self.classify(status=502)[1])
        self.assertIn("rule: method unsupported", self.classify(code=-32601)[1])

    def test_nothing(self) -> None:
        """Without an error it says what is missing, and does not wait at a terminal."""
        for stdin in (None, "", "\n \n"):
            status, out, err = self.classify(stdin=stdin)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("expected an error", err)

    def test_config(self) -> None:
        """A configuration's rules come first, and are told from those built in."""
        _, out, _ = self.classify("we are out of coffee", config=self.configured(OWN))
        self.assertIn("rule: house rule (from the configuration)\n  what our nodes say\n", out)
        self.assertIn("rule: unknown error (built in)", self.classify("we are out of coffee")[1])

    def test_config_faults(self) -> None:
        """Faults of the configuration are told with path and line."""
        bad = self.configured(OWN.replace("out of coffee", "'out (of'").replace("rpc_error", "gone"))
        status, out, err = self.classify("x", config=bad)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("verdicts[0].when.text", err)
        self.assertIn("verdicts[0].then.fault", err)
        status, _, err = self.classify("x", config="no/such/file")
        self.assertEqual(status, 1)
        self.assertIn("no/such/file", err)

    def test_command(self) -> None:
        """The options arrive, and bad ones are refused with the usage."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(__import__("sys"), "stdout", out)
        self.patch(__import__("sys"), "stderr", err)
        with self.assertRaises(SystemExit) as caught:
            main(["classify", "nonce too low", "--method", "eth_sendRawTransaction", "--code", "-32010", "--json"])
        self.assertEqual(caught.exception.code, 0)
        told = json.loads(out.getvalue())
        self.assertEqual((told["rule"], told["code"]), ("nonce used", -32010))
        for options in (["--status", "42"], ["--status", "ok"], ["--code", "x"], ["--colour"], ["a", "b"]):
            with self.assertRaises(SystemExit) as caught:
                main(["classify", *options])
            self.assertEqual(caught.exception.code, 2, options)
        self.assertIn("usage: evmlb classify", err.getvalue())
