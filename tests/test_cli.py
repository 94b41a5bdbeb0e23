"""The console command."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evmlb import __version__
from evmlb.cli import main

EXAMPLE = Path(__file__).resolve().parent.parent / "config.yaml.example"


class CommandTests(SynchronousTestCase):
    def run_command(self, *arguments: str) -> tuple[object, str]:
        """Exit status and all output."""
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output), self.assertRaises(SystemExit) as caught:
            main(arguments)
        return caught.exception.code, output.getvalue()

    def test_version(self) -> None:
        """``version`` prints the version."""
        self.assertEqual(self.run_command("version"), (0, f"evmlb {__version__}\n"))

    def test_version_option(self) -> None:
        """So does the option that every program has."""
        self.assertEqual(self.run_command("--version"), (0, f"evmlb {__version__}\n"))

    def test_no_port(self) -> None:
        """A number that is no port is refused in words."""
        for text in ("99999", "-1", "http"):
            status, output = self.run_command("demo", "--port", text)
            self.assertEqual(status, 2)
            self.assertIn("--port", output)

    def test_check(self) -> None:
        """``check`` says that the shipped example is good, and of a bad file what is wrong."""
        self.assertEqual(self.run_command("check", str(EXAMPLE))[0], 0)
        bad = self.mktemp()
        Path(bad).write_text("networks:\n  - name: n\n    rpc_retrys: 3\n")
        status, output = self.run_command("check", bad)
        self.assertEqual(status, 1)
        self.assertIn("rpc_retries", output)

    def test_usage(self) -> None:
        """Without a command, or with an unknown one, it says how it is used."""
        for arguments in ((), ("dance",)):
            status, output = self.run_command(*arguments)
            self.assertEqual(status, 2)
            self.assertIn("usage: evmlb", output)
