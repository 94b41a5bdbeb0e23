"""Who may import whom: values <- policy <- node, network <- interfaces <- {drivers, use} <- edges <- composition."""

import ast
from collections.abc import Iterator, Set
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent / "evmlb"

LAYERS = (  # left never imports right
    ("values", "chain errors events jsonrpc memo methods transactions trail urls texts stats config.schema config"),
    ("policy", "policy"),
    ("node", "node network"),
    ("interfaces", "session interfaces exchange"),
    ("drivers", "wire upstream store metrics logs"),
    ("use", "deadlines question examining routing polling sharing subscribing"),
    ("edges", "front bridge admin"),
    ("composition", "balancer service process tap cli health classify demo chaos __main__"),
)
RANK = {room: rank for rank, (_, rooms) in enumerate(LAYERS) for room in rooms.split()}
NAMES = [name for name, _ in LAYERS]
IMPURE = {"twisted", "treq", "autobahn", "txredisapi", "prometheus_client", "asyncio", "uvloop", "httptools", "time"}
STRANGERS = ("drivers", "edges")  # rooms of these layers do not import each other
PARSERS = ("json.loads", "json.load", "orjson.loads", "msgspec.json.Decoder", "msgspec.json.decode")
NO_STRANGERS_JSON = ("demo", "chaos", "classify")  # they read what they, or an operator at a terminal, wrote
ALLOWED = {  # what one room of such a layer may use of another, with the reason
    ("upstream", "wire"): "the pool speaks HTTP/1.1 over the wire",
    ("front", "wire"): "so does the client's side",
    ("bridge", "wire"): "a WebSocket begins with a request, and reads its head",
}


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Every module: its name, its room, its syntax tree."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts != ("__init__",):
            yield ".".join(parts), parts[0], ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """Each imported module, also those imported for types only: who names a type knows what it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith("evmlb"))


def files(tree: ast.Module, known: Set[str]) -> Iterator[str]:
    """The files of ours that are imported; ``from package import file`` takes nothing of the package's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inside if name in known)
            if node.module in known and not known >= set(inside):
                yield node.module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that reach each other."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {name: {other for other in reached[name] if name in reached[other]} for name in graph}
    return [group for name, group in groups.items() if name == min(group, default="")]


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    open_ends = [start]
    while open_ends:
        new = graph[open_ends.pop()] - seen
        seen |= new
        open_ends += new
    return seen


class LayersTests(SynchronousTestCase):
    def test_every_room_is_known(self) -> None:
        """Each module and package has its layer."""
        self.assertEqual({room for _, room, _ in modules()} - set(RANK), set())

    def test_directions(self) -> None:
        """Nothing imports from a layer to its right, not for types either; drivers and edges do not know each other."""
        wrong = []
        for name, room, tree in modules():
            for imported in imports(tree):
                other = imported.split(".")[1] if imported.startswith("evmlb.") else None
                if other is None or other == room or other not in RANK:
                    continue
                strangers = NAMES[RANK[room]] == NAMES[RANK[other]] and NAMES[RANK[room]] in STRANGERS
                edge_to_driver = NAMES[RANK[room]] == "edges" and NAMES[RANK[other]] == "drivers"
                if RANK[other] > RANK[room] or ((strangers or edge_to_driver) and (room, other) not in ALLOWED):
                    wrong.append(f"{name} imports {imported}")
        self.assertEqual(wrong, [])

    def test_no_circles(self) -> None:
        """No two files know each other, however long the way around, and be it for types only."""
        trees = {f"evmlb.{name}".removesuffix(".__init__"): tree for name, _, tree in modules()}
        graph = {name: set(files(tree, trees.keys())) - {name} for name, tree in trees.items()}
        self.assertEqual(circles(graph), [])
        self.assertEqual(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}), [{"b", "c"}])

    def test_the_pure_part_is_pure(self) -> None:
        """Values, policy, nodes, networks and interfaces know no framework, no loop, no clock."""
        wrong = [
            f"{name} imports {imported}"
            for name, room, tree in modules()
            if RANK[room] <= NAMES.index("interfaces")
            for imported in imports(tree)
            if imported.split(".")[0] in IMPURE
        ]
        self.assertEqual(wrong, [])

    def test_one_reactor(self) -> None:
        """Only the composition imports the reactor; everyone else is given one."""
        wrong = [
            name
            for name, room, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and node.module == "twisted.internet"
            and any(alias.name == "reactor" for alias in node.names)
            and NAMES[RANK[room]] != "composition"
        ]
        self.assertEqual(wrong, [])

    def test_one_door_for_json(self) -> None:
        """What came from outside is read by ``evmlb.jsonrpc`` alone: nobody else calls a parser, or makes one."""
        wrong = [
            f"{name}: {ast.unparse(node)}"
            for name, room, tree in modules()
            if room not in ("jsonrpc", *NO_STRANGERS_JSON)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node) in PARSERS
        ]
        self.assertEqual(wrong, [])
