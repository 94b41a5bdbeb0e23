"""``evmlb classify``: which rule of the verdict table an error matches, and what would happen.

An error comes as an argument or on standard input, in whatever form it was found: the message alone, an error object, a
whole JSON-RPC answer, a batch's answer, a page. It is judged exactly as an answer of a node would be, and what the
columns of the verdict amount to is said in words. Of the request only its method is known here, so words that a node
repeats of the parameters count as the node's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from msgspec import Raw

from evmlb.config.faults import ConfigError
from evmlb.config.load import load_config
from evmlb.config.rules import VerdictRule, builtin_rules
from evmlb.jsonrpc import Answer, AnswerKind, Call, read_answer
from evmlb.methods import FAST, method_class
from evmlb.policy.echoes import NOTHING_SAID, Echoes
from evmlb.policy.verdicts import Blame, Verdict, Verdicts

_USUAL_CODE = -32000  # what most clients give to most errors
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Context:
    """What is known beside the error itself; ``code`` and ``status`` None: whatever the error's form suggests."""

    status: int | None = None
    code: int | None = None
    method: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One error as it was understood, and what the table says of it. ``rule`` None: it is no error."""

    answer: Answer
    status: int
    text: str
    verdict: Verdict
    rule: VerdictRule | None
    is_builtin: bool = True


# -- what is given


def _answers(given: str, context: Context) -> Iterator[tuple[Answer, int, str]]:
    """The answers in a text, each with its status and, when it is no JSON-RPC, its body."""
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        yield _of_words(given, context)
        return
    for member in value if isinstance(value, list) and value else (value,):
        if isinstance(member, str):
            yield _of_words(member, context)
        else:
            yield _of_json(member, context)


def _of_words(words: str, context: Context) -> tuple[Answer, int, str]:
    """Words are an error's message; those of a page, or with only a status beside them, are a body."""
    is_body = words.lstrip().startswith("<") or (context.code is None and context.status not in (None, 200))
    if is_body:
        return Answer(AnswerKind.GARBAGE), _status(context), words
    code = _USUAL_CODE if context.code is None else context.code
    return Answer(AnswerKind.ERROR, code, words), _status(context), ""


def _of_json(value: Any, context: Context) -> tuple[Answer, int, str]:
    if isinstance(value, dict) and "error" not in value and "result" not in value and "code" in value:
        value = {"id": None, "error": value}  # an error object alone
    answer = read_answer(json.dumps(value).encode(), _id_of(value))
    if answer.kind is AnswerKind.ERROR and context.code is not None:
        answer = Answer(AnswerKind.ERROR, context.code, answer.message)
    return answer, _status(context), json.dumps(value) if answer.kind is AnswerKind.GARBAGE else ""


def _id_of(value: Any) -> bytes:
    return json.dumps(value.get("id") if isinstance(value, dict) else None).encode()


def _status(context: Context) -> int:
    return 200 if context.status is None else context.status


def _texts(given: str) -> Iterator[str]:
    """What standard input holds: one JSON value or page, or an error per line."""
    try:
        json.loads(given)
    except (ValueError, RecursionError):
        if not given.lstrip().startswith("<"):
            yield from (line for line in given.splitlines() if line.strip())
            return
    yield given


# -- what is found


def classify(given: str, context: Context, rules: tuple[VerdictRule, ...] = ()) -> Iterator[Finding]:
    """What the table, with ``rules`` before the built-in ones, says of each error in a text."""
    verdicts = Verdicts(rules)
    klass = method_class(context.method) if context.method else FAST
    echoes = Echoes(Call(context.method, klass, b"", Raw())) if context.method else NOTHING_SAID
    for answer, status, text in _answers(given, context):
        verdict = verdicts.judge_answer(
            status, answer, text=text, method=context.method, klass=klass, provider=context.provider, echoes=echoes
        )
        own = next((rule for rule in rules if rule.verdict is verdict), None)
        rule = own or next((rule for rule in builtin_rules() if rule.verdict is verdict), None)
        yield Finding(answer, status, text, verdict, rule, is_builtin=own is None)


_BLAMES = {
    Blame.NONE: "the node is not blamed",
    Blame.SUSPECT: "the node is asked last from now on, until it has answered well",
    Blame.FAILURE: "the node is asked last from now on, and once another node has answered the same call well it counts"
    " as a failure for the breaker",
}


def consequences(verdict: Verdict) -> Iterator[str]:
    """What would happen, in words: what is asked, what becomes of the node, what the client gets."""
    if verdict.fault is None:
        yield from _of_the_clients(verdict)
        return
    yield from _of_retries(verdict)
    yield _BLAMES[verdict.blame]
    if verdict.limited:
        yield "the node gets no requests until its limit is over"
    if verdict.unsupported:
        yield "the node is not asked for this method again for a while"
    if verdict.split:
        yield "parts of the range would not be too large for this node, but ranges are not split yet"
    if verdict.informative:
        code = "" if verdict.client_code is None else f", with the code {verdict.client_code}"
        yield f"if all nodes fail, the client gets the node's own words{code}"
    else:
        yield "if all nodes fail, the client gets an error of evmlb's own"


def _of_the_clients(verdict: Verdict) -> Iterator[str]:
    if verdict.success:
        yield "the client is told of success: what the call wished is done"
    elif verdict.verify:
        yield "the transaction is looked up: if it is there, the client is told of success, else it gets the answer"
    else:
        yield "the client gets the answer as it is; no other node is asked"
    yield _BLAMES[verdict.blame]


def _of_retries(verdict: Verdict) -> Iterator[str]:
    if not verdict.retry:
        yield "no other node is asked"
    elif verdict.not_executed:
        yield "another node is asked at once, whatever the call: this one surely did not carry it out"
    else:
        yield "another node is asked at once, unless the call must not be sent twice"
    if verdict.not_there_yet:
        yield "with nobody left to ask, nodes are asked once more after a part of a block time, if it is about the tip"
    elif verdict.retry_here and not verdict.informative:
        yield "with nobody left to ask, nodes are asked again after a pause"


# -- how it is told


def _understood(finding: Finding) -> str:
    answer = finding.answer
    if answer.kind is AnswerKind.ERROR:
        return f"error {answer.code}: {answer.message[:_SHOWN_CHARACTERS]}"
    if answer.kind is AnswerKind.GARBAGE:
        why = f" ({answer.why})" if answer.why else ""
        return f"HTTP {finding.status}, no JSON-RPC{why}: {' '.join(finding.text.split())[:_SHOWN_CHARACTERS]}"
    return "a result, not an error"


def _columns(verdict: Verdict) -> dict[str, Any]:
    columns = asdict(verdict)
    del columns["rule"]
    return columns | {
        "fault": verdict.fault.value if verdict.fault else None,
        "blame": verdict.blame.name.lower(),
    }


def _as_text(finding: Finding) -> str:
    lines = [_understood(finding)]
    if finding.rule is not None:
        origin = "built in" if finding.is_builtin else "from the configuration"
        lines.append(f"rule: {finding.rule.name} ({origin})")
        lines += [f"  {finding.rule.description}"] if finding.rule.description else []
        said = ", ".join(_said(column, value) for column, value in _columns(finding.verdict).items() if _is_said(value))
        lines.append(f"verdict: {said or 'no column, so the answer is for the client'}")
    return "\n".join([*lines, *(f"- {consequence}" for consequence in consequences(finding.verdict))])


def _is_said(value: object) -> bool:
    return value not in (None, False, "none")


def _said(column: str, value: object) -> str:
    return column if value is True else f"{column} {value}"


def _as_json(finding: Finding) -> str:
    answer = finding.answer
    is_error = answer.kind is AnswerKind.ERROR
    return json.dumps(
        {
            "kind": "error" if is_error else "body" if answer.kind is AnswerKind.GARBAGE else "result",
            "status": finding.status,
            "code": answer.code if is_error else None,
            "message": answer.message if is_error else finding.text[:_SHOWN_CHARACTERS],
            "rule": finding.rule.name if finding.rule else None,
            "built_in": finding.is_builtin if finding.rule else None,
            "description": finding.rule.description if finding.rule else "",
            "verdict": _columns(finding.verdict),
            "consequences": list(consequences(finding.verdict)),
        }
    )


def main_classify(
    text: str | None,
    context: Context,
    *,
    config: str | None,
    as_json: bool,
    stdin: TextIO,
    out: TextIO,
    err: TextIO,
) -> int:
    """Write to ``out`` what becomes of the errors in ``text``, or on ``stdin`` when there is none.

    ``config`` is the path of a file whose rules come first. The status: 0; 1 when that file has faults, which go to
    ``err``; 2 when there is nothing to classify.
    """
    try:
        rules = load_config(config).verdicts if config is not None else ()
    except ConfigError as error:
        err.write(f"{error}\n")
        return 1
    given = [text] if text is not None else [] if stdin.isatty() else list(_texts(stdin.read()))
    if not any(each.strip() for each in given) and context.code is None and context.status is None:
        err.write("evmlb classify: expected an error, as TEXT or on standard input, or --code or --status\n")
        return 2
    findings = [finding for each in given or [""] for finding in classify(each, context, rules)]
    write = _as_json if as_json else _as_text
    out.write(("\n" if as_json else "\n\n").join(write(finding) for finding in findings) + "\n")
    return 0
