"""Clients' WebSockets: calls that are balanced one by one, and subscriptions that belong to us."""
