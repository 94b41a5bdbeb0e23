"""The reactor's listening methods, on the loop's own transports.

Twisted's endpoint strings (``tcp:8080:interface=::1``, ``unix:/run/evmlb.sock``, ``systemd:domain=INET:name=web``) end
in a call of ``listenTCP``, ``listenUNIX`` or ``adoptStreamPort`` on a reactor. Given a :class:`NativePorts` for that
reactor, they listen on the loop instead; whatever else an endpoint asks of a reactor (``ssl:``) is passed on to the
real one, and runs on Twisted's transports.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import Any

from twisted.internet import error, interfaces
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.lockfile import FilesystemLock
from zope.interface import implementer

from evmlb.wire.reactor import native_loop
from evmlb.wire.sockets import BACKLOG, bind_tcp
from evmlb.wire.transport import NativeTransport

_log = Logger()


def ports_of(reactor: Any) -> Any:
    """What to give to endpoints as their reactor: the loop's ports where there is a loop, else the reactor itself."""
    loop = native_loop(reactor)
    return reactor if loop is None else NativePorts(reactor, loop)


class NativePorts:
    """See the module's head."""

    def __init__(self, reactor: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._reactor = reactor
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = BACKLOG, interface: str = "") -> NativePort:
        """Listen on a TCP port; raises ``CannotListenError``."""
        try:
            sock = bind_tcp(port, interface or "0.0.0.0")
        except OSError as cause:
            raise error.CannotListenError(interface, port, cause) from cause
        return NativePort(self._loop, sock, factory)

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = BACKLOG, mode: int = 0o666, wantPID: int = 0
    ) -> NativePort:
        """Listen on a UNIX socket; with ``wantPID`` a lock beside it tells a stale one from one in use."""
        lock = FilesystemLock(address + ".lock") if wantPID else None
        if lock is not None and not lock.lock():
            raise error.CannotListenError(None, address, OSError("the socket is in use"))
        if lock is not None and not lock.clean:
            _remove_socket(address)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(address)
            os.chmod(address, mode)
        except OSError as cause:
            sock.close()
            if lock is not None:
                lock.unlock()
            raise error.CannotListenError(None, address, cause) from cause
        return NativePort(self._loop, sock, factory, address, lock)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> NativePort:
        """Listen on a socket that is bound already; the caller keeps, and closes, its own descriptor."""
        sock = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
        sock.setblocking(False)
        return NativePort(self._loop, sock, factory)


def _remove_socket(address: str) -> None:
    """Remove what a process that died has left."""
    try:
        if stat.S_ISSOCK(os.stat(address).st_mode):
            os.remove(address)
    except FileNotFoundError:
        pass


@implementer(interfaces.IListeningPort)
class NativePort:
    """A listening port of the loop. Connections wait in the kernel from the moment it is made."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        factory: Any,
        path: str | None = None,
        lock: FilesystemLock | None = None,
    ) -> None:
        sock.listen(BACKLOG)
        self._sock = sock
        self._factory = factory
        self._path = path
        self._lock = lock
        self._server: Any = None
        factory.doStart()
        build = factory.buildProtocol
        creating = loop.create_server(lambda: NativeTransport(build), sock=sock, backlog=BACKLOG)
        self._starting = asyncio.ensure_future(creating, loop=loop)
        self._starting.add_done_callback(self._started)

    def _started(self, starting: asyncio.Future[Any]) -> None:
        if not starting.cancelled() and starting.exception() is not None:
            _log.error("cannot accept connections: {why}", why=starting.exception())

    def startListening(self) -> None:
        """It listens already."""

    def getHost(self) -> Any:
        """The address it listens on."""
        name = self._sock.getsockname()
        if self._path is not None or isinstance(name, (str, bytes)):
            return UNIXAddress(self._path or name or None)
        return (IPv6Address if ":" in name[0] else IPv4Address)("TCP", *name[:2])

    def stopListening(self) -> Deferred[None]:
        """Accept no more; connections that stand are untouched."""
        if self._starting.done() and not self._starting.cancelled() and self._starting.exception() is None:
            self._starting.result().close()
        else:
            self._starting.cancel()
            self._sock.close()
        if self._path is not None:
            _remove_socket(self._path)
        if self._lock is not None:
            self._lock.unlock()
            self._lock = None
        self._factory.doStop()
        return succeed(None)
