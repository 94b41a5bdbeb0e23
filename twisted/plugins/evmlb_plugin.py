"""Makes ``twistd evmlb`` and ``-r evmlb`` known to Twisted. Strings only: nothing is imported until it is chosen."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

evmlb = ServiceMaker("evmlb", "evmlb.tap", "An EVM JSON-RPC load balancer that knows the chain.", "evmlb")
evmlb_reactor = Reactor("evmlb", "evmlb.wire.reactor", "The asyncio reactor on uvloop, as evmlb runs it.")
