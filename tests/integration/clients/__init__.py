"""Clients that nobody here wrote, each a program of its own, holding newHeads and logs.

A client is started with the URL of a WebSocket and the address of a contract. It subscribes to heads and to that
contract's logs, by what its library has for that, and writes what comes of it, each a line of JSON on stdout:

======================= =============================================================================================
``{"subscribed": id}``  a subscription was made (heads first, then logs), where the library tells its id
``{"head": {...}}``     hash, number, parentHash
``{"log": {...}}``      blockHash, blockNumber, logIndex, removed
``{"ended": [...]}``    the answers to both ``eth_unsubscribe``, as far as the library tells them
``{"left": true}``      the connection was closed, by the client
``{"failed": why}``     anything that should not have happened
======================= =============================================================================================

What it is told, each a line on stdin: ``end`` (unsubscribe, and stay connected), ``leave`` (close the connection),
``resume HEAD LOG`` (connect again, heads from the block of hash HEAD on, logs from that of hash LOG on). It exits at
the end of stdin.

Libraries hand an event to whoever subscribed by the id that it carries, and drop those of other ids: so each event that
is written had the id that the client was given at first.
"""
