"""The console command: ``evmlb run``, ``check``, ``demo``, ``version``.

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
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="balance, in the foreground")
    run.add_argument("-c", "--config", default="config.yaml", metavar="FILE", help="default: config.yaml")
    run.set_defaults(run=_run)

    check = commands.add_parser("check", help="say whether a configuration file is good, with every fault")
    check.add_argument("file", nargs="?", default="config.yaml", metavar="FILE", help="default: config.yaml")
    check.set_defaults(run=_check)

    demo = commands.add_parser("demo", help="a simulated chain, three nodes and the balancer before them")
    demo.add_argument("--port", type=int, default=8080, help="default: 8080; 0 takes a free one")
    demo.add_argument("--metrics-port", type=int, default=9101, help="default: 9101; 0 takes a free one")
    demo.add_argument("--quiet-life", action="store_true", help="no node misbehaves")
    demo.set_defaults(run=_demo)

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


def _demo(options: argparse.Namespace) -> int:
    from evmlb.demo.show import show

    return show(options.port, options.metrics_port, quiet_life=options.quiet_life)


def _version(options: argparse.Namespace) -> int:
    print(f"evmlb {__version__}")
    return 0
