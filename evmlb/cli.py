"""The console command: ``evmlb run``, ``check``, ``classify``, ``demo``, ``chaos``, ``health``, ``version``.

``run`` is ``twistd -n evmlb`` by another name; whoever wants Twisted's own options (daemon mode, a log file, another
reactor) uses ``twistd`` itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from evmlb import __version__


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; ends with ``SystemExit``."""
    options = _parser().parse_args(arguments)
    sys.exit(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evmlb", description="Balance JSON-RPC requests over EVM nodes.")
    parser.add_argument("--version", action="version", version=f"evmlb {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="balance, in the foreground")
    run.add_argument("-c", "--config", default="config.yaml", metavar="FILE", help="default: config.yaml")
    run.set_defaults(run=_run)

    check = commands.add_parser("check", help="say whether a configuration file is good, with every fault")
    check.add_argument("file", nargs="?", default="config.yaml", metavar="FILE", help="default: config.yaml")
    check.set_defaults(run=_check)

    classify = commands.add_parser(
        "classify",
        help="say which rule an error of a node matches, and what would happen",
        description="Say which rule of the verdict table an error matches, and what would happen. TEXT is an error's "
        "message, an error object, a whole JSON-RPC answer, or a body that is none. Without it, standard input is "
        "read: one of these, or an error per line.",
    )
    classify.add_argument("text", nargs="?", metavar="TEXT", help="the error")
    classify.add_argument("--status", type=_status, metavar="N", help="HTTP status; words beside it alone are a body")
    classify.add_argument("--code", type=int, metavar="N", help="JSON-RPC code; for words alone, -32000 is assumed")
    classify.add_argument("--method", default="", help="the method that was called")
    classify.add_argument("--provider", default="", help="whose node it is, such as alchemy or geth")
    classify.add_argument("-c", "--config", metavar="FILE", help="a configuration whose verdicts come first")
    classify.add_argument("--json", action="store_true", help="an object per line, for programs")
    classify.set_defaults(run=_classify)

    demo = commands.add_parser("demo", help="a simulated chain, three nodes and the balancer before them")
    demo.add_argument("--port", type=_port, default=8080, help="default: 8080; 0 takes a free one")
    demo.add_argument("--metrics-port", type=_port, default=9101, help="default: 9101; 0 takes a free one")
    demo.add_argument("--quiet-life", action="store_true", help="no node misbehaves")
    demo.set_defaults(run=_demo)

    chaos = commands.add_parser("chaos", help="simulate nodes that misbehave, and look whether clients would notice")
    chaos.add_argument("--seed", type=int, metavar="N", help="of the first run; a run follows from its seed")
    chaos.add_argument("--runs", type=_runs, metavar="K", help="default: 1 with --seed, else 200")
    chaos.add_argument("-c", "--config", metavar="FILE", help="simulate this configuration instead of drawn ones")
    chaos.set_defaults(run=_chaos)

    health = commands.add_parser("health", help="say whether the process that this configuration runs is alive")
    health.add_argument("-c", "--config", default="config.yaml", metavar="FILE", help="default: config.yaml")
    health.set_defaults(run=_health)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    return parser


def _run(options: argparse.Namespace) -> int:
    from twisted.scripts.twistd import run

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "evmlb", "--config", options.config]
    run()
    return 0


def _check(options: argparse.Namespace) -> int:
    from evmlb.config.load import main_check

    return main_check(options.file, sys.stdout, sys.stderr)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port, which are 0 to 65535")
    return port


def _status(text: str) -> int:
    status = int(text)
    if not 100 <= status <= 999:
        raise argparse.ArgumentTypeError(f"{text} is no HTTP status")
    return status


def _classify(options: argparse.Namespace) -> int:
    from evmlb.classify import Context, main_classify

    context = Context(options.status, options.code, options.method, options.provider.lower())
    return main_classify(
        options.text,
        context,
        config=options.config,
        as_json=options.json,
        stdin=sys.stdin,
        out=sys.stdout,
        err=sys.stderr,
    )


def _demo(options: argparse.Namespace) -> int:
    from evmlb.demo.show import show

    return show(options.port, options.metrics_port, quiet_life=options.quiet_life)


def _runs(text: str) -> int:
    runs = int(text)
    if runs < 1:
        raise argparse.ArgumentTypeError("at least one run")
    return runs


def _chaos(options: argparse.Namespace) -> int:
    from evmlb.chaos.command import main_chaos

    return main_chaos(options.seed, options.runs, options.config, sys.stdout, sys.stderr)


def _health(options: argparse.Namespace) -> int:
    from evmlb.health import main_health

    return main_health(options.config, sys.stdout, sys.stderr)


def _version(options: argparse.Namespace) -> int:
    print(f"evmlb {__version__}")
    return 0
