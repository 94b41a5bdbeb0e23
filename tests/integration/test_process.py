"""The program as a process: signals, reactors, daemon mode, faults of its file, what it holds and gives back."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import asking, parts
from tests.integration.raw import RawNode, cut_call, read_answer, result
from tests.support import free_port

TWISTD = (sys.executable, "-m", "twisted")
CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x0","latest"]}'


def config_text(*ports: int, settings: str = "", top: str = "") -> str:
    """A balancer before nodes on these ports."""
    nodes = "".join(
        f"      - {{name: node-{n}, rpc_endpoint: 'http://127.0.0.1:{port}'}}\n" for n, port in enumerate(ports, 1)
    )
    return parts.with_ports(
        f"{top}networks:\n  - name: net\n    local_poll_interval: 250ms\n{settings}    local_nodes:\n{nodes}"
    )


class ProcessCase(SynchronousTestCase):
    def node(self, **settings: object) -> RawNode:
        node = RawNode(**settings)  # type: ignore[arg-type]
        node.start()
        self.addCleanup(node.stop)
        return node

    def evmlb(self, text: str, **settings: object) -> parts.EvmlbProcess:
        evmlb = parts.EvmlbProcess(text, **settings)  # type: ignore[arg-type]
        self.addCleanup(evmlb.clean)
        evmlb.start()
        return evmlb

    def post(self, evmlb: parts.EvmlbProcess, body: bytes = CALL, **settings: float) -> tuple[int, bytes]:
        return asking.post(f"{evmlb.url}/net", body, **settings)  # type: ignore[arg-type]


class ProcessTests(ProcessCase):
    def check_stops_in_order(self, *command: str) -> None:
        """What is in flight at SIGTERM is answered whole; then the process ends, with its ports closed."""
        node = self.node()
        evmlb = self.evmlb(config_text(node.port), command=command or parts.EVMLB)
        self.assertEqual(self.post(evmlb)[0], 200)
        node.delay_seconds = 1.0
        answers: list[tuple[int, bytes]] = []
        asking = [threading.Thread(target=lambda: answers.append(self.post(evmlb))) for _ in range(5)]
        for thread in asking:
            thread.start()
        parts.wait_until(lambda: node.waiting >= 5, 5, "the requests to be under way")
        evmlb.terminate()
        for thread in asking:
            thread.join(10)
        self.assertEqual([(status, json.loads(body)["result"]) for status, body in answers], [(200, "0x10")] * 5)
        self.assertIn(evmlb.wait(), parts.TERMINATED)
        self.assertFalse(parts.is_open(evmlb.port))
        self.assertNotIn("Traceback", evmlb.output())

    def test_sigterm(self) -> None:
        """SIGTERM ends in order."""
        self.check_stops_in_order()

    def test_other_reactors(self) -> None:
        """Everything works on an explicitly chosen reactor, too."""
        for reactor in ("epoll", "asyncio"):
            self.check_stops_in_order(*TWISTD, f"--reactor={reactor}", "evmlb")

    def test_twistd(self) -> None:
        """``twistd -n`` runs it as ``python -m twisted`` does."""
        twistd = str(Path(sys.executable).parent / "twistd")
        self.check_stops_in_order(sys.executable, twistd, "-n", "--pidfile=", "evmlb")

    def test_run_command(self) -> None:
        """So does ``evmlb run``."""
        self.check_stops_in_order(sys.executable, "-m", "evmlb", "run")

    def test_sigint(self) -> None:
        """SIGINT ends it as well."""
        evmlb = self.evmlb(config_text(self.node().port))
        assert evmlb.process is not None
        evmlb.process.send_signal(signal.SIGINT)
        evmlb.wait()
        self.assertNotIn("Traceback", evmlb.output())

    def test_sighup(self) -> None:
        """SIGHUP does not end it: the log says what a restart would do with the file, and it goes on serving."""
        evmlb = self.evmlb(config_text(self.node().port))
        assert evmlb.process is not None
        for change, words in (
            ("", "is what runs"),
            ("shutdown_grace: 3s\n", "differs from what runs"),
            ("shutdown_gracee: 3s\n", "shutdown_grace"),
        ):
            text = evmlb.config_path.read_text()
            evmlb.config_path.write_text(change + text)
            evmlb.process.send_signal(signal.SIGHUP)
            parts.wait_until(lambda words=words: words in evmlb.output(), 5, f"the log to say {words!r}")
            evmlb.config_path.write_text(text)
        self.assertEqual(self.post(evmlb)[0], 200)

    def test_log_file_moved_away(self) -> None:
        """On SIGUSR1 a log file that was moved away is opened anew, whichever program runs evmlb."""
        twistd = str(Path(sys.executable).parent / "twistd")
        for number, command in enumerate(
            (
                (sys.executable, twistd, "-n", "--logfile=log", "evmlb"),
                (sys.executable, "-m", "twisted", "--log-file=log", "evmlb"),
            )
        ):
            evmlb = self.evmlb(config_text(self.node().port), command=command)
            assert evmlb.process is not None
            log = evmlb.folder / "log"
            parts.wait_until(lambda log=log: "served at" in log.read_text(), 5, "the log to have begun")
            log.rename(evmlb.folder / "moved")
            evmlb.process.send_signal(signal.SIGUSR1)

            def is_new(evmlb: parts.EvmlbProcess = evmlb, log: Path = log) -> bool:
                assert evmlb.process is not None
                evmlb.process.send_signal(signal.SIGHUP)  # something to be written
                return log.exists() and "SIGHUP" in log.read_text()

            parts.wait_until(is_new, 5, f"a new log, {number}")
            self.assertEqual(self.post(evmlb)[0], 200)
            evmlb.kill()

    def test_systemd(self) -> None:
        """Systemd hears when clients are served, that the loop turns, and when it ends."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(folder / "notify"))
            systemd.settimeout(10)
            environ = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "300000"}
            evmlb = self.evmlb(config_text(self.node().port), **environ)
            heard = {systemd.recv(100) for _ in range(5)}
            evmlb.terminate()
            while b"STOPPING=1" not in heard:
                heard.add(systemd.recv(100))
        self.assertEqual(heard, {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"})
        evmlb.wait()

    def test_twice_in_a_folder(self) -> None:
        """A second one may run in the same folder: in front no file of its process id is left there."""
        twistd = str(Path(sys.executable).parent / "twistd")
        evmlb = self.evmlb(config_text(self.node().port), command=(sys.executable, twistd, "-n", "evmlb"))
        self.assertEqual([path.name for path in evmlb.folder.glob("*.pid")], [])

    def test_alive(self) -> None:
        """``evmlb health`` asks the process that a configuration runs."""
        evmlb = self.evmlb(config_text(self.node().port))
        command = [sys.executable, "-m", "evmlb", "health", "--config", str(evmlb.config_path)]
        ask = {"env": dict(evmlb.environment()), "timeout": 20, "check": False, "capture_output": True}
        self.assertEqual(subprocess.run(command, **ask).returncode, 0)  # type: ignore[call-overload]
        evmlb.kill()
        self.assertEqual(subprocess.run(command, **ask).returncode, 1)  # type: ignore[call-overload]

    def test_grace_is_bounded(self) -> None:
        """A request that does not end is cut off when the grace is over, never with a clean end."""
        node = self.node()
        evmlb = self.evmlb(config_text(node.port, top="shutdown_grace: 1s\n"))
        node.delay_seconds = 20
        with socket.create_connection(("127.0.0.1", evmlb.port)) as client:
            client.sendall(cut_call("/net", CALL))
            parts.wait_until(lambda: node.waiting >= 1, 5, "the request to be under way")
            began = time.monotonic()
            evmlb.terminate()
            self.assertIn(evmlb.wait(), parts.TERMINATED)
            self.assertLess(time.monotonic() - began, 5)
            self.assertRaises(ConnectionError, lambda: [client.recv(1000) or self.fail("a clean end")])

    def test_daemon(self) -> None:
        """As a daemon it serves, writes its log to a file and ends at SIGTERM."""
        text = config_text(self.node().port)
        evmlb = parts.EvmlbProcess(text)
        self.addCleanup(evmlb.clean)
        folder = evmlb.folder
        twistd = str(Path(sys.executable).parent / "twistd")
        options = ["--pidfile", str(folder / "pid"), "--logfile", str(folder / "log"), "--rundir", str(folder)]
        command = [sys.executable, twistd, *options, "evmlb", "--config", str(evmlb.config_path)]
        subprocess.run(command, env=dict(evmlb.environment()), check=True, timeout=20, stdin=subprocess.DEVNULL)
        parts.wait_until(evmlb.is_ready, 10, "the daemon to be ready")
        pid = int((folder / "pid").read_text())
        try:
            self.assertEqual(self.post(evmlb)[0], 200)
        finally:
            os.kill(pid, signal.SIGTERM)
        parts.wait_until(lambda: not (folder / "pid").exists(), 10, "the daemon to end")
        self.assertNotIn("Traceback", (folder / "log").read_text())

    def test_faulty_file(self) -> None:
        """A faulty file ends it with status 1, every fault named with its line, before a port is opened."""
        evmlb = parts.EvmlbProcess(
            parts.with_ports("networks:\n  - name: net\n    local_nodez: []\n    rpc_retries: -1\n")
        )
        self.addCleanup(evmlb.clean)
        twistd = str(Path(sys.executable).parent / "twistd")
        for command in ((sys.executable, twistd, "-n", "--pidfile=", "evmlb"), (sys.executable, "-m", "evmlb", "run")):
            done = subprocess.run(
                [*command, "--config", str(evmlb.config_path)],
                env=dict(evmlb.environment()),
                capture_output=True,
                timeout=20,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            text = (done.stdout + done.stderr).decode()
            self.assertEqual(done.returncode, 1, text)
            self.assertIn("local_nodes", text)
            self.assertIn("rpc_retries", text)
            self.assertNotIn("Traceback", text)

    def test_port_in_use(self) -> None:
        """A port that is taken ends it at once, with words."""
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            port = taken.getsockname()[1]
            text = f"port: {port}\nmetrics_port: {free_port()}\nnetworks: [{{name: n, local_endpoints: ['http://127.0.0.1:1']}}]\n"
            evmlb = parts.EvmlbProcess(text, command=(sys.executable, "-m", "evmlb", "run"))
            self.addCleanup(evmlb.clean)
            evmlb.launch()
            self.assertEqual(evmlb.wait(20), 1)
            self.assertIn("Address already in use", evmlb.output())


class EdgesTests(ProcessCase):
    def test_url_parts(self) -> None:
        """A node's path, query and credentials are sent, the extra path and query of each request added."""
        node = self.node()
        settings = ""
        text = config_text(settings=settings) + (
            f"      - rpc_endpoint: 'http://u5er:pa55%21@127.0.0.1:{node.port}/v1/key?apikey=s3cr3t'\n"
        )
        evmlb = self.evmlb(text)
        asking.post(f"{evmlb.url}/net", CALL)
        self.assertEqual(node.requests[-1].target, "/v1/key?apikey=s3cr3t")
        self.assertEqual(node.requests[-1].headers["authorization"], "Basic dTVlcjpwYTU1IQ==")
        asking.post(f"{evmlb.url}/net/a/../b?x=1", CALL, {"Cookie": "c", "Authorization": "mine", "X-Other": "y"})
        self.assertEqual(node.requests[-1].target, "/v1/key/b?apikey=s3cr3t&x=1")
        self.assertEqual(node.requests[-1].headers["authorization"], "Basic dTVlcjpwYTU1IQ==")
        self.assertNotIn("cookie", node.requests[-1].headers)
        self.assertEqual(node.requests[-1].headers["x-forwarded-for"], "127.0.0.1")
        pages = b"".join(parts.get(evmlb.admin_url + path)[1] for path in ("/metrics", "/nodes", "/readyz", "/"))
        for secret in ("s3cr3t", "pa55", "u5er"):
            self.assertNotIn(secret, pages.decode())
            self.assertNotIn(secret, evmlb.output())
        evmlb.end()

    def test_large_answer_streams(self) -> None:
        """A 20 MB answer comes whole, also to a client that reads slowly, and does not stay in the process."""
        node = self.node(answer=result(b'"0x' + b"ab" * 10_000_000 + b'"'))
        evmlb = self.evmlb(config_text(node.port, settings="    chain_id: 16\n"))
        assert evmlb.process is not None
        before = resident_bytes(evmlb.process.pid)
        with socket.create_connection(("127.0.0.1", evmlb.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.sendall(cut_call("/net", CALL))
            time.sleep(1.5)
            grown = resident_bytes(evmlb.process.pid) - before
            status, body = read_answer(client)
        self.assertEqual((status, len(body)), (200, len(node.answer)))
        self.assertLess(grown, 8_000_000)
        evmlb.end()

    def test_nothing_leaks(self) -> None:
        """After clients that vanish at every point, descriptors and what is in flight are as before."""
        node = self.node()
        evmlb = self.evmlb(config_text(node.port))
        assert evmlb.process is not None
        self.post(evmlb)
        call = cut_call("/net", CALL)
        before = descriptors(evmlb.process.pid)
        node.delay_seconds = 0.2
        for place in range(0, len(call) + 1, 3):
            with socket.create_connection(("127.0.0.1", evmlb.port)) as client:
                client.sendall(call[:place])
                if place % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        node.delay_seconds = 0.0
        parts.wait_until(lambda: descriptors(evmlb.process.pid) <= before + 2, 10, "descriptors to be given back")  # type: ignore[union-attr]
        self.assertEqual(self.post(evmlb)[0], 200)
        self.assertIn('evmlb_requests_in_flight{network="net"} 0.0', evmlb.metrics())
        evmlb.end()

    def test_listen_strings(self) -> None:
        """Endpoint strings open TCP, IPv6 and UNIX ports, on either kind of reactor; nothing is left of them."""
        node = self.node()
        for reactor in ("asyncio", "epoll"):
            path = f"{self.mktemp()[-40:].replace('/', '-')}.sock"
            port, port6 = free_port(), free_port()
            listen = f"listen: ['tcp:{port}:interface=127.0.0.1', 'tcp6:{port6}:interface=\\:\\:1', 'unix:{path}']\n"
            evmlb = self.evmlb(
                config_text(node.port, top=listen),
                command=(*TWISTD, f"--reactor={reactor}", "evmlb"),
            )
            unix = socket.socket(socket.AF_UNIX)
            unix.connect(str(evmlb.folder / path))
            clients = (socket.create_connection(("127.0.0.1", port)), socket.create_connection(("::1", port6)), unix)
            for client in clients:
                with client:
                    client.sendall(cut_call("/net", CALL))
                    self.assertEqual(read_answer(client)[0], 200)
            evmlb.end()
            self.assertEqual([left for left in os.listdir(evmlb.folder) if left.startswith(path)], [])

    def test_half_closed_client(self) -> None:
        """A client that sends its request and then a FIN still gets its answer."""
        node = self.node(delay_seconds=0.3)
        evmlb = self.evmlb(config_text(node.port))
        with socket.create_connection(("127.0.0.1", evmlb.port)) as client:
            client.sendall(cut_call("/net", CALL))
            client.shutdown(socket.SHUT_WR)
            status, body = read_answer(client)
            self.assertEqual((status, json.loads(body)["result"]), (200, "0x10"))
            self.assertEqual(client.recv(10), b"")
        evmlb.end()

    def test_client_leaves(self) -> None:
        """When a client leaves, its upstream work ends, and the node is not blamed."""
        node = self.node()
        evmlb = self.evmlb(config_text(node.port))
        node.delay_seconds = 5.0
        with socket.create_connection(("127.0.0.1", evmlb.port)) as client:
            client.sendall(cut_call("/net", CALL))
            parts.wait_until(lambda: node.waiting >= 1, 5, "the request to be under way")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        node.delay_seconds = 0.0
        parts.wait_until(lambda: 'outcome="client_left"' in evmlb.metrics(), 5, "the leaving to be seen")
        self.assertEqual(self.post(evmlb)[0], 200)
        self.assertNotIn("suspect", evmlb.output())
        evmlb.end()


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
