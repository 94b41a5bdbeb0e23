"""Compressed answers over real connections: real clients unpack them to what the node said, byte for byte."""

import gzip
import json
import shutil
import subprocess
import threading
import urllib.request
from unittest import SkipTest

from tests.integration import parts
from tests.integration.raw import result
from tests.integration.test_process import CALL, TWISTD, ProcessCase, config_text

LARGE = result(json.dumps([{"logIndex": hex(n), "data": f"0x{n * 7919:064x}"} for n in range(2000)]).encode())
HUGE = result(json.dumps([{"logIndex": hex(n), "data": f"0x{n * 7919:064x}"} for n in range(20_000)]).encode())


class GzipTests(ProcessCase):
    def begin(self, answer: bytes, top: str = "", *command: str) -> None:
        self.raw = self.node(answer=answer)
        text = config_text(self.raw.port, top=f"gzip: true\n{top}", settings="    chain_id: 16\n")
        self.process = self.evmlb(text, command=command or parts.EVMLB)

    def ask(self) -> tuple[dict[str, str], bytes]:
        """Headers and unpacked body of an answer."""
        headers = {"Accept-Encoding": "gzip", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.process.url}/net", CALL, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return found, gzip.decompress(answer.read())

    def test_curl(self) -> None:
        """Curl asks for it as it does by itself, on one connection, and unpacks what it gets."""
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("part missing: curl")
        self.begin(LARGE)
        url = f"{self.process.url}/net"
        command = [curl, "-sS", "--compressed", "--noproxy", "*", "-H", "Content-Type: application/json"]
        done = subprocess.run([*command, "-d", CALL, url, url, url], capture_output=True, timeout=20, check=True)
        self.assertEqual(done.stdout, LARGE * 3)
        done = subprocess.run(
            [*command, "-D", "-", "-o", "/dev/null", "-d", CALL, url], capture_output=True, check=True
        )
        self.assertIn(b"\r\nContent-Encoding: gzip\r\n", done.stdout)
        self.assertIn("evmlb_gzip_input_bytes_total %.1f" % (4 * len(LARGE)), self.process.metrics())
        self.process.end()

    def test_many_at_once(self) -> None:
        """Sixteen clients at a time, on either kind of reactor."""
        for reactor in ("asyncio", "epoll"):
            self.begin(LARGE, "", *TWISTD, f"--reactor={reactor}", "evmlb")
            answers: list[tuple[dict[str, str], bytes]] = []
            asking = [threading.Thread(target=lambda: answers.append(self.ask())) for _ in range(16)]  # noqa: B023
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join(20)
            self.assertEqual([headers["content-encoding"] for headers, _ in answers], ["gzip"] * 16)
            self.assertEqual({body for _, body in answers}, {LARGE})
            self.process.end()

    def test_held_or_streamed(self) -> None:
        """What outgrows the failover buffer is passed on plain, and with a larger buffer it is compressed."""
        self.begin(HUGE)
        status, body = self.post(self.process)
        self.assertEqual((status, body), (200, HUGE))
        with self.assertRaises(gzip.BadGzipFile):
            self.ask()
        self.process.end()
        self.begin(HUGE, "failover_buffer: 8MiB\n")
        headers, body = self.ask()
        self.assertEqual((headers["vary"], body), ("Accept-Encoding", HUGE))
        self.assertLess(int(headers["content-length"]), len(HUGE) // 4)
        self.process.end()
