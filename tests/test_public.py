"""What `import nexusd` offers: cheap to import, and its examples are true."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

import nexusd
from nexusd.spool import dropping, reading
from nexusd.wire import client
from tests.world import until


@pytest.fixture
def folder(pair):
    """Alice's folder of a session in which Bob has written once."""
    alice, bob = pair
    bob.drop("chat", "answer.txt", "Use main.")
    until(lambda: alice.texts("chat"))
    return alice.folder("chat")


def test_the_examples_are_true(folder, relay):
    for module in (nexusd, dropping, reading, client):
        result = doctest.testmod(module, extraglobs={"FOLDER": folder, "SERVER": relay.url})
        assert result.attempted > 0
        assert result.failed == 0, module.__name__


def test_import_costs_nothing_before_something_is_used():
    program = (
        "import sys, nexusd; print(*sorted(m for m in sys.modules if m.startswith(('nexusd', 'httpx', 'asyncio'))))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["nexusd"]


def test_every_public_name_is_there_and_listed():
    for name in nexusd.__all__:
        assert getattr(nexusd, name) is not None
        assert name in dir(nexusd)
    assert not hasattr(nexusd, "nothing_of_this_name")


def test_the_inbox_and_the_drop_need_no_network_library():
    program = "import sys, nexusd; nexusd.Inbox, nexusd.drop; print('httpx' in sys.modules, 'asyncio' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(("text", "payload"), [(None, None), ("", None), (None, float("nan")), (None, {1, 2})])
def test_what_cannot_be_sent_is_not_dropped(tmp_path, text, payload):
    (tmp_path / "outbox").mkdir()
    with pytest.raises((ValueError, TypeError)):
        nexusd.drop(tmp_path, text, payload)
    assert not list((tmp_path / "outbox").iterdir())


def test_a_drop_can_be_taken_back_until_it_is_claimed(tmp_path):
    (tmp_path / "outbox").mkdir()
    dropped = nexusd.drop(tmp_path, "hello", {"a": 1})
    assert dropped.name.endswith(".msg.json")
    assert not dropped.settled(timeout=0)
    assert dropped.take_back()
    assert not dropped.take_back()


def test_a_folder_that_is_none_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        nexusd.drop(tmp_path, "hello")


def test_the_types_are_those_of_the_real_things(tmp_path):
    source = tmp_path / "use.py"
    source.write_text(
        "import nexusd\n"
        "reveal_type(nexusd.drop('x', 'y').receipt())\n"
        "reveal_type(nexusd.Inbox('x').last())\n"
        "reveal_type(nexusd.NexusClient('https://x').health)\n"
    )
    pytest.importorskip("mypy")
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    for kind in ("dict[str, Any] | None", '"int"', "wire.records.Health"):
        assert kind in ran.stdout
