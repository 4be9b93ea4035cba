"""Which room may know which: read from the imports, so that nothing can slip in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "nexusd"
MODULES = {
    ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(HOUSE.rglob("*.py"))
}


def imports(source: str, module: str, *, package: bool = False) -> set[str]:
    """Everything a module imports, wherever in it that stands, by its whole name."""
    found: set[str] = set()
    home = module if package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = home.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {
                word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)
            }
    return found


IMPORTS = {name: imports(path.read_text(), name, package=path.name == "__init__.py") for name, path in MODULES.items()}


RARE = {"nexusd.cli.hand.unrecorded"}  # it is there so that no other of its room needs the whole configuration


def within(room: str) -> list[str]:
    return [name for name in MODULES if name == f"nexusd.{room}" or name.startswith(f"nexusd.{room}.")]


def knows(name: str, room: str) -> set[str]:
    """What the module imports from a room, or from a library."""
    return {i for i in IMPORTS[name] if i == room or i.startswith(f"{room}.")}


def test_the_house_is_seen_at_all():
    assert len(MODULES) > 60
    assert "nexusd.wire.fate" in IMPORTS["nexusd.wire.client"]
    assert {"wire", "spool", "bridge", "relay", "cli", "config"} <= {
        n.split(".")[1] for n in MODULES if n.count(".") > 1
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b", "a.b"),
        ("from a import b", "a.b"),
        ("from . import y", "nexusd.wire.y"),
        ("from .y import z", "nexusd.wire.y"),
        ("from ..spool import x", "nexusd.spool.x"),
        ("def f():\n    import httpx", "httpx"),
        ("if TYPE_CHECKING:\n    from nexusd.spool import x", "nexusd.spool"),
        ("import importlib\nimportlib.import_module('nexusd.spool')", "nexusd.spool"),
        ("__import__('httpx')", "httpx"),
    ],
)
def test_no_form_of_import_hides(source, found):
    assert found in imports(source, "nexusd.wire.x")


@pytest.mark.parametrize(
    ("room", "others"),
    [
        ("wire", ("spool", "bridge", "config", "cli", "relay", "daemon", "clientdir", "serving", "log")),
        ("spool", ("wire", "bridge", "config", "cli", "relay", "daemon", "clientdir", "serving", "log")),
        ("bridge", ("cli", "relay", "daemon", "log")),
        ("relay", ("wire", "spool", "bridge", "cli", "config", "daemon", "clientdir", "serving")),
        ("config", ("bridge", "cli", "relay", "daemon")),
        ("cli.hand", ("bridge", "relay", "daemon", "config.load", "config.keys", "config.records")),
    ],
)
def test_a_room_knows_only_those_below_it(room, others):
    assert within(room)
    for name in within(room):
        for other in others if name not in RARE else ():
            assert not knows(name, f"nexusd.{other}"), name


@pytest.mark.parametrize("name", ["errors", "jsontext", "secrets", "notify"])
def test_what_all_stand_on_stands_on_nothing_of_ours(name):
    assert not {i for i in knows(f"nexusd.{name}", "nexusd") if not i.startswith(("nexusd.errors", "nexusd.jsontext"))}


def test_only_the_bridge_and_what_is_above_it_joins_wire_and_spool():
    joining = {name for name in MODULES if knows(name, "nexusd.wire") and knows(name, "nexusd.spool")}
    outside = {n for n in joining if not n.startswith(("nexusd.bridge.", "nexusd.cli.", "nexusd.config."))}
    assert not outside - {"nexusd"}  # the front door names both for the type checker, and imports neither


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("httpx", "nexusd.wire.pool"),
        ("aiohttp", "nexusd.wire.fast"),
        ("watchfiles", "nexusd.bridge.watcher"),
        ("structlog", "nexusd.log"),
    ],
)
def test_a_library_is_known_by_one_module(library, module):
    knowing = {name for name in MODULES if knows(name, library)}
    types = {name for name in knowing if _only_for_types(MODULES[name].read_text(), library)}
    assert knowing - types == {module}


def _only_for_types(source: str, library: str) -> bool:
    """Whether a library is imported for its types alone, which costs and does nothing when the program runs."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return not any(i == library or i.startswith(f"{library}.") for i in imports(ast.unparse(tree), "nexusd.x"))


def test_the_server_of_our_own_needs_its_libraries_alone():
    for library in ("starlette", "uvicorn"):
        assert {name for name in MODULES if knows(name, library)} <= {*within("relay"), *within("cli.service")}


@pytest.mark.parametrize("library", ["httpx", "structlog", "watchfiles", "starlette", "uvicorn", "tomli_w"])
def test_the_hand_imports_nothing_that_it_could_not_start_quickly_with(library):
    reached: set[str] = set()
    waiting = ["nexusd.cli.nexus", *within("cli.hand")]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [i for i in IMPORTS[name] if i in MODULES and not _only_for_types(MODULES[name].read_text(), i)]
    assert len(reached) > 20
    assert not {n for n in reached if knows(n, library) and not _only_for_types(MODULES[n].read_text(), library)}


def test_nothing_prints_but_the_one_file_that_may_and_the_server_of_our_own():
    printing = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printing.add(name)
    assert {name for name in printing if not name.startswith("nexusd.relay.")} <= {"nexusd.cli.output"}


def test_no_module_grows_past_what_one_can_hold_in_the_head():
    assert {n for n, path in MODULES.items() if len(path.read_text().splitlines()) > 300} == set()
    for word in ("utils", "helpers", "core", "common", "manager", "misc"):
        assert not [name for name in MODULES if word in name.split(".")]
