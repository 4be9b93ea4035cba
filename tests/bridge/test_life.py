"""One session is opened for as long as it is configured, whatever is in the way, and opened anew where it breaks."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil

import pytest

from nexusd import root as roots
from nexusd.bridge import life as lives
from nexusd.bridge.poller import Poller
from nexusd.root import Root
from nexusd.spool import atomic
from tests import virtual
from tests.faults.household import IDS, Household


@pytest.fixture
def house(tmp_path, monkeypatch):
    made = Household(tmp_path, monkeypatch, 1)
    for name, room in made.rooms.items():
        made.client_dir.save(IDS[name], server=room.server, key=f"{name}-key-123456", agent="me")
        room.members["me"] = f"{name}-key-123456"
    yield made
    made.close()


def states(house: Household) -> dict[str, str]:
    return {name: life.status.value for name, life in house.supervisor.lives.items()}


WELL = {"chat": "active", "work": "active"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("where", ["nexus", "client", "nexus/chat"])
def test_case_120_what_is_wrong_at_the_start_only_is_wrong_only_then(house, error, where):
    house.place.error, house.place.where = error, str(house.home / where)
    house.start()
    house.sleep(3)
    assert states(house)["chat"] == "blocked"
    assert str(house.home) in house.supervisor.lives["chat"].last_error
    house.place.error = None
    house.rooms["chat"].say("hello")
    house.sleep(40)
    assert states(house) == WELL
    assert [line["text"] for line in house.lines("chat")] == ["hello"]


def test_case_120_one_that_is_held_by_another_daemon_is_taken_over(house):
    house.locked.add(IDS["chat"])
    house.start()
    house.sleep(600)
    assert states(house) == {"chat": "blocked", "work": "active"}
    assert "another nexusd" in house.supervisor.lives["chat"].last_error
    house.locked.clear()
    house.sleep(lives.LONGEST + 5)
    assert states(house) == WELL


def test_case_120_the_user_need_not_wait_for_the_next_attempt(house):
    house.locked.add(IDS["chat"])
    house.start()
    house.sleep(600)
    house.locked.clear()
    house.do(lambda: house.supervisor.apply(house.config))  # as SIGHUP does
    house.sleep(0.5)
    assert states(house)["chat"] != "blocked"


@pytest.mark.parametrize("folder", [True, False])
def test_case_121_a_root_that_is_not_mounted_at_the_start_is_waited_for(house, folder):
    house.start()
    house.rooms["chat"].say("one")
    house.sleep(40)
    house.stop()
    house.unmount(folder=folder)
    house.start()
    house.rooms["chat"].say("two")
    house.sleep(300)
    assert set(states(house).values()) == {"blocked"}
    assert "mount its volume" in house.supervisor.lives["chat"].last_error
    assert not house.root.exists() or list(house.root.iterdir()) == []
    house.mount()
    house.sleep(40)
    assert states(house) == WELL
    assert [(line["seq"], line["text"]) for line in house.lines("chat")] == [(1, "one"), (2, "two")]


def test_case_121_a_root_that_is_taken_away_while_running_is_noticed_before_anything_is_written(house):
    house.start()
    house.rooms["chat"].say("one")
    house.sleep(40)
    house.unmount(folder=True)
    house.rooms["chat"].say("two")
    house.sleep(100)
    assert set(states(house).values()) == {"blocked"}
    assert list(house.root.iterdir()) == []
    house.mount()
    house.sleep(40)
    assert states(house) == WELL
    assert [line["text"] for line in house.lines("chat")] == ["one", "two"]


def test_case_121_a_session_folder_that_is_removed_begins_anew_with_the_next_line(house):
    house.start()
    for n in range(3):
        house.rooms["chat"].say(f"text {n}")
    house.sleep(40)
    shutil.rmtree(house.root / "chat")
    house.rooms["chat"].say("text 3")
    house.sleep(100)
    assert states(house) == WELL
    lines = house.lines("chat")
    assert (lines[0]["seq"], lines[0]["notice"]) == (4, "gap")
    assert [line.get("text") for line in lines[1:]] == [f"text {n}" for n in range(4)]
    assert [line["seq"] for line in lines] == [4, 5, 6, 7, 8]


def test_case_121_another_root_in_its_place_is_not_written_to(house):
    house.start()
    house.sleep(5)
    house.stop()
    house.unmount(folder=True)
    atomic.private_folder(str(house.root / ".nexusd"))
    (house.root / ".nexusd" / "id").write_text("another\n")
    house.start()
    house.sleep(100)
    assert set(states(house).values()) == {"blocked"}
    assert sorted(p.name for p in house.root.rglob("*")) == [".nexusd", "id"]


def test_case_122_a_lock_that_is_removed_is_made_again(house):
    house.start()
    house.sleep(5)
    shutil.rmtree(house.root / ".nexusd")
    house.sleep(5)
    assert (house.root / ".nexusd" / "lock").exists()
    assert states(house) == WELL
    with pytest.raises(Exception, match="already serves"):
        Root(str(house.root), house.client_dir.path).hold()


@pytest.mark.parametrize("times", [1, 3])
def test_case_184_what_is_not_understood_closes_the_session_and_opens_it_anew_from_its_files(house, monkeypatch, times):
    left = [ZeroDivisionError] * times
    real = Poller._receive

    async def receive(self, batch, **more):
        if left and self._session.name == "chat":
            raise left.pop()
        return await real(self, batch, **more)

    monkeypatch.setattr(Poller, "_receive", receive)
    house.rooms["chat"].say("hello")
    house.start()
    house.sleep(30)
    assert states(house) == WELL
    assert [line["text"] for line in house.lines("chat")] == ["hello"]
    assert len(house.log.named("session.reopening")) == times


def test_case_184_any_exception_while_one_is_opened_is_that_ones(house, monkeypatch):
    house.start()
    house.sleep(5)
    house.stop()
    state = house.root / "chat" / ".nexusd" / "state.json"
    good = state.read_text()
    state.write_text(good.replace('"version":1', '"version":99') if '"version"' in good else '{"ended":"asleep"}')
    house.start()
    house.sleep(100)
    assert states(house) == {"chat": "blocked", "work": "active"}
    assert "newer nexusd" in house.supervisor.lives["chat"].last_error
    state.write_text(good)
    house.sleep(40)
    assert states(house) == WELL


def test_a_fault_that_comes_again_and_again_is_met_more_and_more_rarely(house, monkeypatch):
    tried = []

    async def receive(self, batch, **_):
        tried.append(asyncio.get_running_loop().time() - virtual.START)
        raise ZeroDivisionError

    monkeypatch.setattr(Poller, "_receive", receive)
    house.start()
    house.sleep(600)
    assert 30 < len(tried) < 100
    assert states(house) == {"chat": "blocked", "work": "blocked"}


def test_a_root_that_cannot_even_be_looked_at_is_said_without_a_fault_of_ours(house, monkeypatch):
    house.start()
    house.sleep(3)
    with monkeypatch.context() as patch:
        patch.setattr(roots, "_identity", lambda path: (_ for _ in ()).throw(PermissionError(13, "denied", path)))
        house.sleep(5)
        assert states(house) == {"chat": "blocked", "work": "blocked"}
    house.sleep(40)
    assert states(house) == WELL


def test_a_session_that_is_closed_has_counted_its_lines(house):
    house.start()
    house.rooms["chat"].say("hello")
    house.sleep(60)
    life = house.supervisor.lives["chat"]
    seq = life.last_seq
    assert seq > 0
    house.do(lambda: life.close(1.0))
    assert life.runner is None
    assert (life.last_seq, life.status.value, life.last_error) == (seq, "joining", None)


def test_a_session_json_that_cannot_be_written_is_said_and_is_true_again_soon(house, monkeypatch):
    """Agents go by it: an old one that says that all is well would hide what is not."""
    house.start()
    house.sleep(5)
    with monkeypatch.context() as patch:

        def refuse(path, data):
            raise PermissionError(errno.EACCES, "denied", path)

        patch.setattr(atomic, "replace_or_overwrite", refuse)
        house.rooms["chat"].say("hello")
        house.sleep(60)
        assert states(house) == {"chat": "blocked", "work": "blocked"}
        assert "chat/session.json" in house.supervisor.lives["chat"].last_error
        assert [line["text"] for line in house.lines("chat")] == ["hello"]
    house.sleep(10)
    assert states(house) == WELL
    assert '"active"' in (house.root / "chat" / "session.json").read_text()


@pytest.mark.parametrize(("off", "removed"), [(0.0, 1), (40 * 86_400.0, 0), (None, 0)])
def test_nothing_is_removed_as_old_by_a_clock_that_no_server_vouches_for(house, off, removed):
    """By one that is off by weeks all is old, and before a first answer nobody can tell."""
    house.tells_time = off is not None
    house.start()
    house.sleep(5)
    sent = house.root / "chat" / "sent"
    for name, age in (("old", 31 * 86_400), ("new", 60)):
        (sent / name).write_text("")
        (sent / f"{name}.receipt.json").write_text("{}")
        at = house.true_time() - age
        for path in (sent / name, sent / f"{name}.receipt.json"):
            os.utime(path, (at, at))
    house.jump = off or 0.0
    house.do(house.supervisor.prune)
    assert sorted(path.name for path in sent.glob("*.json")) == ["new.receipt.json", "old.receipt.json"][: 2 - removed]
    assert house.supervisor.vouched_for is house.tells_time
