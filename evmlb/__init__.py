"""An EVM JSON-RPC load balancer that knows which nodes are in step with the chain."""

__version__ = "0.1.0"
