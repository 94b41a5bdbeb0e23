"""How autobahn is used: without a timer, without a log, and of a request it reads what is a matter of WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

if TYPE_CHECKING:
    from evmlb.wire.http1 import RequestHead


EXTENSIONS = b"sec-websocket-extensions"


class Quiet:
    """In the place of autobahn's logger: what clients do wrong is counted, and told to them, not logged."""

    def debug(self, *args: Any, **fields: Any) -> None:
        """Say nothing."""

    info = warn = error = debug


def opening(head: RequestHead, offer: bytes) -> bytes:
    """The request of an upgrade as autobahn reads it: what is a matter of WebSocket, and nothing else.

    ``offer``: the one extension that is accepted, empty for none. Others it would refuse, where it has to decline them.
    """
    lines = [b"%b / HTTP/1.%d" % (head.method, head.http11)]
    lines += [b"%b: %b" % header for header in head.headers if _is_of_websocket(header[0])]
    if offer:
        lines.append(b"%b: %b" % (EXTENSIONS, offer))
    return b"\r\n".join((*lines, b"", b""))


def _is_of_websocket(name: bytes) -> bool:
    if name in (b"host", b"connection", b"upgrade"):
        return True
    return name.startswith(b"sec-websocket-") and name != EXTENSIONS


def make_factory(max_message_bytes: int, compression: bool) -> Any:
    """Autobahn's options, without any timer of its own."""
    factory = WebSocketServerFactory(reactor=object(), server="")
    factory.setProtocolOptions(
        versions=(13,),
        webStatus=False,
        maxFramePayloadSize=max_message_bytes,
        maxMessagePayloadSize=max_message_bytes,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        perMessageCompressionAccept=_accept_deflate if compression else None,
        allowNullOrigin=True,
    )
    return factory


def with_options(protocol: Any, factory: Any) -> Any:
    """The protocol class with the factory's options, which every connection would copy otherwise: 1 KB, and 0.2 ms."""
    options = {name: getattr(factory, name) for name in protocol.CONFIG_ATTRS}
    functions = {name: staticmethod(value) for name, value in options.items() if callable(value)}
    return type(protocol.__name__, (protocol,), {**options, **functions, "CONFIG_ATTRS": ()})


def _accept_deflate(offers: list[Any]) -> Any:
    """The first offer of permessage-deflate."""
    return next(
        (PerMessageDeflateOfferAccept(offer) for offer in offers if isinstance(offer, PerMessageDeflateOffer)), None
    )
