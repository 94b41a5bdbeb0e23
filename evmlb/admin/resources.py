"""The pages of the admin port.

``GET`` and ``HEAD`` only. Errors are text on one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request

from evmlb.admin.pages import PageWorks, make_cooperator
from evmlb.admin.readiness import Readiness
from evmlb.admin.site import AdminSite
from evmlb.admin.views import NetworkView, as_json, network_facts, nodes_page, records_page, requests_page
from evmlb.config.schema import Config
from evmlb.policy.addresses import AddressRanges
from evmlb.policy.pages import Hosts
from evmlb.texts import shown
from evmlb.trail import Ring

__all__ = ["MetricsPage", "MetricsRendering", "NetworkView", "Readers", "make_admin_site", "make_root", "readers_of"]

_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"
_log = Logger(namespace="evmlb.admin")


class MetricsRendering(Protocol):
    """A metrics page under way."""

    @property
    def content_type(self) -> str:
        """Its media type."""
        ...

    @property
    def slices(self) -> Iterator[bytes]:
        """Its parts, each made when it is taken."""
        ...


class MetricsPage(Protocol):
    """Where the metrics page comes from."""

    def render(self, accept: str | None) -> MetricsRendering:
        """Begin a page in the format that an ``Accept`` header asks for."""
        ...


def answer(request: Request, status: int, body: bytes, content_type: bytes = _TEXT) -> int:
    """Answer with all that belongs to it."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(body))
    if request.method != b"HEAD":
        request.write(body)
    request.finish()
    return NOT_DONE_YET


def answer_later(request: Request, page: Deferred[bytes], content_type: bytes) -> int:
    """Answer when the page is done; the work for it ends when the client leaves."""
    request.notifyFinish().addErrback(lambda _: page.cancel())
    page.addCallback(lambda body: answer(request, http.OK, body, content_type))
    page.addErrback(_failed, request)
    return NOT_DONE_YET


def _failed(failure: Failure, request: Request) -> None:
    if not failure.check(CancelledError):
        _log.failure("a page of the admin port could not be made", failure)
        answer(request, http.INTERNAL_SERVER_ERROR, b"the page could not be made; the log says why\n")


def answer_not_found(request: Request) -> int:
    """There is no such page."""
    return answer(request, http.NOT_FOUND, b"no such page\n")


class Page(Resource):
    """A page that can only be read, and everything below it."""

    isLeaf = True

    def render(self, request: Request) -> int:
        """Answer, or say which methods there are."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return answer(request, http.NOT_ALLOWED, b"GET and HEAD only\n")
        below = [each.decode("utf-8", "replace") for each in request.postpath or () if each]
        return self.show(request) if not below else self.show_below(request, below)

    def show(self, request: Request) -> int:
        """Answer for the page itself."""
        return answer_not_found(request)

    def show_below(self, request: Request, below: list[str]) -> int:
        """Answer for what is below it."""
        return answer_not_found(request)


class Live(Page):
    """Alive as long as it answers: a restart would not make nodes better."""

    def show(self, request: Request) -> int:
        """Say so."""
        return answer(request, http.OK, b"alive\n")


class Ready(Page):
    """Whether requests should be sent here; below, whether one network can serve."""

    def __init__(self, readiness: Readiness, now: Callable[[], float]) -> None:
        super().__init__()
        self._readiness = readiness
        self._now = now

    def show(self, request: Request) -> int:
        """Answer 200 or 503 for the whole."""
        return _answer_ready(request, *self._readiness.check(self._now()))

    def show_below(self, request: Request, below: list[str]) -> int:
        """Answer 200 or 503 for one network."""
        name = "/".join(below)
        if name not in self._readiness.networks:
            return answer(request, http.NOT_FOUND, b"no such network\n")
        return _answer_ready(request, *self._readiness.check_network(name, self._now()))


def _answer_ready(request: Request, ready: bool, reason: str) -> int:
    status, reason = http.OK if ready else http.SERVICE_UNAVAILABLE, shown(reason)
    if b"application/json" in (request.getHeader(b"accept") or b""):
        return answer(request, status, as_json({"ready": ready, "reason": reason}), _JSON)
    return answer(request, status, f"{reason}\n".encode())


@dataclass(frozen=True, slots=True)
class Readers:
    """Who may read the pages that tell more than numbers: clients by their addresses, asking by these names.

    A web page can make its own name resolve to this port (DNS rebinding), and then read in its visitor's name; so a
    Host that is neither an address, nor ``localhost``, nor listed is refused. A UNIX socket has no address: who may use
    it is said by its file.
    """

    clients: AddressRanges
    hosts: Hosts

    def refusal(self, request: Request) -> str | None:
        """Why this request may not read; None: it may."""
        client = getattr(request.getClientAddress(), "host", None)
        if client is not None and client not in self.clients:
            return f"{client} may not read this: see admin_clients in the configuration"
        host = request.getHeader(b"host") or b""
        return None if self.hosts.permit(host) else "not by this name: see admin_hosts in the configuration"


class PrivatePage(Page):
    """A page for readers only."""

    def __init__(self, readers: Readers) -> None:
        super().__init__()
        self._readers = readers

    def render(self, request: Request) -> int:
        """Answer those who may read."""
        refusal = self._readers.refusal(request)
        return super().render(request) if refusal is None else answer(request, http.FORBIDDEN, f"{refusal}\n".encode())


class Nodes(PrivatePage):
    """Everything known of every node, and why it serves or not; below, of one network."""

    def __init__(
        self, readers: Readers, views: Mapping[str, NetworkView], works: PageWorks, now: Callable[[], float]
    ) -> None:
        super().__init__(readers)
        self._views = views
        self._works = works
        self._now = now

    def show(self, request: Request) -> int:
        """Answer for all networks."""
        page = self._works.page("nodes", lambda: nodes_page(self._views, self._now))
        return answer_later(request, page, _JSON)

    def show_below(self, request: Request, below: list[str]) -> int:
        """Answer for one network."""
        view = self._views.get("/".join(below))
        if view is None:
            return answer(request, http.NOT_FOUND, b"no such network\n")
        return answer(request, http.OK, as_json(network_facts(view, self._now())), _JSON)


class Requests(PrivatePage):
    """The last failures and the slowest requests, each with its path."""

    def __init__(self, readers: Readers, ring: Ring, works: PageWorks) -> None:
        super().__init__(readers)
        self._lists = {"failures": ring.failures, "slowest": ring.slowest}
        self._works = works

    def show(self, request: Request) -> int:
        """Answer with both."""
        page = self._works.page("requests", lambda: requests_page(self._lists))
        return answer_later(request, page, _JSON)

    def show_below(self, request: Request, below: list[str]) -> int:
        """Answer with one of them."""
        name = "/".join(below)
        records = self._lists.get(name)
        if records is None:
            return answer(request, http.NOT_FOUND, b"no such list: there are failures and slowest\n")
        page = self._works.page(("requests", name), lambda: records_page(records))
        return answer_later(request, page, _JSON)


class MetricsResource(Page):
    """The metrics."""

    def __init__(self, metrics: MetricsPage, works: PageWorks) -> None:
        super().__init__()
        self._metrics = metrics
        self._works = works

    def show(self, request: Request) -> int:
        """Answer in the format that the client prefers."""
        accept = request.getHeader(b"accept")
        rendering = self._metrics.render(accept.decode("latin-1") if accept else None)
        content_type = rendering.content_type
        page = self._works.page(("metrics", content_type), lambda: rendering.slices)
        return answer_later(request, page, content_type.encode("latin-1", "replace"))


_INDEX = b"""evmlb

/metrics          for Prometheus
/livez            200 while running
/readyz           200 while requests should be sent here, else 503
/readyz/{network} the same of one network, strictly
/nodes            every node, its state, its place in the order and why (JSON)
/nodes/{network}  the same of one network
/requests         the last failures and the slowest requests of the last hour, each with its path (JSON)
/requests/{list}  failures, or slowest
"""


class Root(Resource):
    """The index, and the pages by their names."""

    def __init__(self, pages: Mapping[bytes, Page]) -> None:
        super().__init__()
        self._pages = pages

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Find a page."""
        return self._pages.get(path) or Page()


class Index(Page):
    """What there is."""

    def show(self, request: Request) -> int:
        """List the pages."""
        return answer(request, http.OK, _INDEX)


def make_root(
    views: Mapping[str, NetworkView],
    metrics: MetricsPage,
    readiness: Readiness,
    now: Callable[[], float],
    works: PageWorks,
    ring: Ring,
    readers: Readers,
) -> Root:
    """Make the tree of pages."""
    return Root(
        {
            b"": Index(),
            b"metrics": MetricsResource(metrics, works),
            b"livez": Live(),
            b"readyz": Ready(readiness, now),
            b"nodes": Nodes(readers, views, works, now),
            b"requests": Requests(readers, ring, works),
        }
    )


def make_admin_site(
    views: Mapping[str, NetworkView],
    metrics: MetricsPage,
    readiness: Readiness,
    now: Callable[[], float],
    clock: Any = None,
    ring: Ring | None = None,
    readers: Readers | None = None,
) -> AdminSite:
    """Make the site. ``clock`` gives ``callLater`` for time-outs and pauses; the reactor where it is not given.

    ``readers`` of the private pages: this machine alone, unless others are named.
    """
    works = PageWorks(make_cooperator(clock))
    readers = readers or readers_of(Config(networks=()))
    return AdminSite(make_root(views, metrics, readiness, now, works, ring or Ring(0, now), readers), clock)


def readers_of(config: Config) -> Readers:
    """The readers that a configuration names."""
    return Readers(AddressRanges(config.admin_clients), Hosts(("localhost", *config.admin_hosts)))
