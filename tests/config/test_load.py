"""Files on disk: how they are read, and what ``evmlb check`` says of them."""

from __future__ import annotations

import io
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from evmlb.config.load import MAX_FILE_BYTES, load_config, main_check
from evmlb.config.parse import ConfigError, parse_config
from tests.config.support import SAMPLES, config, file, with_network, with_node


class FromDisk(SynchronousTestCase):
    def path(self, content: bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def error(self, path: str) -> str:
        return str(self.assertRaises(ConfigError, load_config, path, {}))

    def test_missing(self) -> None:
        """A missing file is a fault with the path as it was given."""
        self.assertEqual(
            self.error("./no/such.yaml"), "./no/such.yaml: the file cannot be read: No such file or directory"
        )

    def test_directory(self) -> None:
        """A directory is a fault, too."""
        self.assertIn("cannot be read", self.error("."))

    def test_zero_byte(self) -> None:
        """A path that no system takes is a fault, too."""
        self.assertIn("cannot be read", self.error("a\0b"))

    def test_not_utf_8(self) -> None:
        """Other encodings are refused, with the line."""
        path = self.path(b"port: 1\nname: \xff\n")
        self.assertEqual(self.error(path), f"{path}:2: the file is not UTF-8 text")

    def test_too_large(self) -> None:
        """A file beyond the bound is refused without being parsed."""
        self.assertIn("more than", self.error(self.path(b"#" * (MAX_FILE_BYTES + 1))))

    def test_byte_order_mark(self) -> None:
        """A byte order mark and Windows line ends change nothing."""
        text = file("port: 1").replace("\n", "\r\n").encode()
        self.assertEqual(load_config(self.path(b"\xef\xbb\xbf" + text), {}), config(file("port: 1")))

    def test_every_fault_with_its_line(self) -> None:
        """Every line of the error has file, line, path and message."""
        path = self.path(b"port: x\n" + file("prt: 1").encode())
        self.assertEqual(
            self.error(path).splitlines(),
            [
                f'{path}:1: port: expected a whole number from 0 to 65535, not "x"',
                f"{path}:2: prt: unknown key; did you mean port?",
            ],
        )

    def test_ca_file(self) -> None:
        """A ca_file must be there when the file is loaded; parsing alone does not look."""
        text = with_node("ca_file: /no/such/ca.pem", "https://a")
        error = self.error(self.path(text.encode()))
        self.assertIn("networks[0].local_nodes[0].ca_file: expected the path of a file that", error)
        self.assertEqual(parse_config(text, {}).networks[0].nodes[0].ca_file, "/no/such/ca.pem")
        there = with_node(f"ca_file: {os.path.abspath(self.path(b'pem'))}", "https://a")
        self.assertEqual(load_config(self.path(there.encode()), {}), config(there))


class Check(SynchronousTestCase):
    def run_check(self, path: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        return main_check(path, out, err, {}), out.getvalue(), err.getvalue()

    def test_good(self) -> None:
        """A good file is summed up, with status 0."""
        path = str(SAMPLES / "documented.yaml")
        self.assertEqual(self.run_check(path), (0, f"{path}: ok: 2 networks, 5 nodes\n", ""))

    def test_warnings(self) -> None:
        """Warnings are told apart and keep the status."""
        path = self.mktemp()
        Path(path).write_text(with_network("use_load_tracker: true"))
        status, out, err = self.run_check(path)
        self.assertEqual((status, out), (0, f"{path}: ok: 1 network, 1 node\n"))
        where = f"{path}:5: networks[0].use_load_tracker: "
        self.assertEqual(err, f"{where}has no effect: no local node has a prometheus_endpoint (warning)\n")

    def test_bad(self) -> None:
        """A bad file's faults are listed, with status 1."""
        path = self.mktemp()
        Path(path).write_text("port: 1\n")
        said = f"{path}:1: expected at least one network under the key networks\n"
        self.assertEqual(self.run_check(path), (1, "", said))
