"""One network's requests, each from its coming in to its end; what is under way is in :mod:`.attempts`.

    router (submit, send, answered, failures, ends) -> choosing (who is asked next)
                                                    -> judging  (what came back means)
                                                    -> learning (what answers passing by tell)
                                                    -> waiting  (until a node has room)

A common request never leaves the router: the rooms behind it are for what is not plain.
"""

from evmlb.routing.admission import admit
from evmlb.routing.router import Router

__all__ = ["Router", "admit"]
