"""What is dropped, in which order, and whether its writer is done."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from nexusd.errors import Refusal
from nexusd.spool import outbox as outboxes
from nexusd.spool.outbox import EMPTY, GRAIN, LINKED, UNLEASED, Outbox, open_plain
from tests.world import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(folder) -> Path:
    return Path(folder.outbox)


@pytest.fixture
def outbox(place, clock) -> Outbox:
    return Outbox(str(place), clock)


def drop(place: Path, name: str, text: str = "hi", at: float = 1e9) -> Path:
    path = place / name
    path.write_text(text)
    os.utime(path, (at, at))
    return path


def ready(outbox: Outbox) -> list[str]:
    return [found.name for found in outbox.look(0).ready]


def refusals(outbox: Outbox) -> dict[str, str]:
    return {name: refusal.code for name, refusal in outbox.look(0).refused}


def test_order_is_by_modification_time_and_then_by_name(place, outbox):
    drop(place, "a", at=1e9 + 3)
    drop(place, "z", at=1e9 + 1)
    drop(place, "c", at=1e9 + 2)
    drop(place, "b", at=1e9 + 2)
    assert ready(outbox) == ["z", "b", "c", "a"]


def test_order_is_by_the_nanosecond(place, outbox):
    for n, name in enumerate("zyxw"):
        drop(place, name)
        os.utime(place / name, ns=(10**18 + n, 10**18 + n))
    assert ready(outbox) == ["z", "y", "x", "w"]


@pytest.mark.parametrize(
    "names",
    [
        ["part-1", "part-2", "part-10", "part-100"],
        ["1.txt", "2.txt", "09.txt", "10.txt"],
        ["m9-2", "m9-10", "m10-1"],
        ["01KABC9ZZ10", "01KABC9ZZ9A"],  # ULIDs have an order of their own
        ["a1000000000", "a999999999999"],
    ],
)
def test_of_one_moment_names_go_by_their_numbers(place, outbox, names):
    """A loop writes several files within one tick of the file system's clock."""
    for name in sorted(names, reverse=True):
        drop(place, name)
    assert ready(outbox) == names


def test_an_empty_outbox_is_waited_for_by_nobody(outbox):
    look = outbox.look(0)
    assert (list(look.ready), look.refused, look.waiting, look.again_in) == ([], [], 0, None)


@pytest.mark.parametrize("name", [".x", ".x.tmp", "x~", "x.tmp", "x.part", "x.swp", "x.crdownload"])
def test_somebodys_work_in_progress_is_left_alone_whatever_it_is(place, outbox, name):
    drop(place, name)
    assert ready(outbox) == []
    (place / name).unlink()
    (place / name).mkdir()
    assert refusals(outbox) == {}


def test_an_empty_file_waits_for_its_writer(place, outbox, clock):
    drop(place, "x", "")
    look = outbox.look(0)
    assert (list(look.ready), look.waiting, look.again_in) == ([], 1, EMPTY)
    clock.now += 2
    assert outbox.look(0).again_in == EMPTY - 2
    clock.now += EMPTY - 2
    assert ready(outbox) == ["x"]


def test_an_empty_file_that_is_written_meanwhile_goes_at_once(place, outbox, clock):
    drop(place, "x", "")
    outbox.look(0)
    drop(place, "x", "text")
    assert ready(outbox) == ["x"]


def test_an_empty_file_that_changes_waits_anew(place, outbox, clock):
    drop(place, "x", "")
    outbox.look(0)
    clock.now += EMPTY - 1
    drop(place, "x", "", at=2e9)
    assert outbox.look(0).again_in == EMPTY


def test_an_empty_file_holds_no_other_back(place, outbox):
    drop(place, "a", "", at=1e9)
    drop(place, "b", at=2e9)
    look = outbox.look(0)
    assert ([d.name for d in look.ready], look.waiting) == (["b"], 1)


def test_a_file_that_was_taken_back_is_forgotten(place, outbox, clock):
    drop(place, "x", "")
    outbox.look(0)
    clock.now += EMPTY
    (place / "x").unlink()
    assert ready(outbox) == []
    drop(place, "x", "")
    assert outbox.look(0).again_in == EMPTY  # another file, that waits its own time


def make(place: Path, what: str) -> None:
    if what == "link":
        os.symlink("/etc/passwd", place / "x")
    elif what == "dangling link":
        os.symlink("/nowhere", place / "x")
    elif what == "folder":
        (place / "x").mkdir()
    elif what == "pipe":
        os.mkfifo(place / "x")
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(place)
            listening.bind("x")


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("link", "link"),
        ("dangling link", "link"),
        ("folder", "folder"),
        ("pipe", "not_a_file"),
        ("socket", "not_a_file"),
    ],
)
def test_what_is_no_file_is_refused_without_being_opened(place, outbox, what, code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make(place, what)
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *given, **more: opened.append(path) or real(path, *given, **more))
    look = outbox.look(0)
    assert not [path for path in opened if os.path.basename(path) == "x"]
    assert [(name, refusal.code) for name, refusal in look.refused] == [("x", code)]
    assert look.refused[0][1].remedy
    assert not look.ready


def test_another_accounts_file_is_refused(place, outbox, monkeypatch):
    drop(place, "x")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert refusals(outbox) == {"x": "foreign_owner"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("x" * 200, None),
        ("x" * 201, "name_too_long"),
        ("é" * 101, "name_too_long"),
        ("x.receipt.json", "reserved_name"),
        ("x.error.json", "reserved_name"),
        ("x.json", None),
        ("receipt.json", None),
    ],
)
def test_names_that_would_not_fit_or_that_are_ours_are_refused(place, outbox, name, code):
    drop(place, name)
    assert refusals(outbox) == ({name: code} if code else {})
    assert ready(outbox) == ([] if code else [name])


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[2J", b"a b", "\u202ex".encode(), b"-rf", b"*"])
def test_odd_names_are_names_like_any_other(place, outbox, name):
    path = os.path.join(os.fsencode(place), name)
    with open(path, "w") as file:
        file.write("hi")
    look = outbox.look(0)
    assert [os.fsencode(d.name) for d in look.ready] == [name]
    assert outbox.is_done(look.ready[0]) is True


def test_a_second_name_is_borne_for_a_moment_and_then_refused(place, outbox, clock, monkeypatch, tmp_path):
    drop(place, "x")
    os.link(place / "x", tmp_path / "y")
    look = outbox.look(0)
    assert (list(look.ready), look.refused, look.again_in) == ([], [], LINKED)
    now = time.time()
    monkeypatch.setattr(outboxes.time, "time", lambda: now + LINKED + 1)
    clock.now += LINKED + 1
    assert refusals(outbox) == {"x": "hard_links"}


def test_a_second_name_that_is_gone_in_time_was_a_careful_writer(place, outbox, tmp_path):
    drop(tmp_path, "y")
    os.link(tmp_path / "y", place / "x")
    outbox.look(0)
    (tmp_path / "y").unlink()
    assert ready(outbox) == ["x"]


def test_a_file_that_somebody_writes_to_is_not_done_until_it_is_closed(place, outbox):
    with (place / "x").open("w") as writer:
        writer.write("half")
        writer.flush()
        (found,) = outbox.look(0).ready
        assert outbox.is_done(found) is False
    assert outbox.is_done(found) is True


def test_readers_do_not_count(place, outbox):
    drop(place, "x")
    (found,) = outbox.look(0).ready
    with (place / "x").open():
        assert outbox.is_done(found) is True


def test_a_file_that_was_taken_back_or_exchanged_for_something_else_is_gone(place, outbox):
    drop(place, "x")
    (found,) = outbox.look(0).ready
    (place / "x").unlink()
    assert outbox.is_done(found) is None
    os.symlink("/etc/passwd", place / "x")
    assert outbox.is_done(found) is None
    (place / "x").unlink()
    os.mkfifo(place / "x")
    assert outbox.is_done(found) is None


def test_case_79_without_leases_a_file_is_done_when_it_was_left_alone_for_a_longer_time(
    place, outbox, clock, monkeypatch
):
    monkeypatch.setattr(outboxes, "lease", lambda _: None)
    drop(place, "x")
    (found,) = outbox.look(0).ready
    assert outbox.is_done(found) is False
    assert found.again_in == UNLEASED
    clock.now += UNLEASED
    drop(place, "x", "more")
    assert outbox.is_done(found) is False
    clock.now += UNLEASED / 2
    look = outbox.look(0)
    assert (list(look.ready), look.again_in) == ([], UNLEASED / 2)
    clock.now += UNLEASED / 2
    (found,) = outbox.look(0).ready
    assert outbox.is_done(found) is True


def test_no_lease_and_no_descriptor_is_left_behind(place, outbox):
    drop(place, "x")
    (found,) = outbox.look(0).ready
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        outbox.is_done(found)
    assert len(os.listdir("/proc/self/fd")) == before
    with (place / "x").open("a") as writer:  # would be held up by a lease
        writer.write("!")


def test_what_a_name_stands_for_is_looked_at_after_opening(place, tmp_path):
    os.mkfifo(place / "pipe")
    with pytest.raises(Refusal) as caught:
        open_plain(str(place / "pipe"))
    assert caught.value.code == "not_a_file"
    os.symlink(drop(tmp_path, "secret"), place / "link")
    with pytest.raises(OSError, match="symbolic links"):
        open_plain(str(place / "link"))


def test_many_files_are_one_scan(place, outbox):
    for n in range(2000):
        drop(place, f"{n:05}")
    until(lambda: time.time() - (place / "01999").stat().st_ctime > 2 * GRAIN)  # none of them dropped during the scan
    assert ready(outbox) == [f"{n:05}" for n in range(2000)]
