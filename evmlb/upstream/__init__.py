"""Drivers that ask nodes: JSON-RPC over HTTP (:mod:`.http`) and node-exporter's text (:mod:`.exporter`)."""
