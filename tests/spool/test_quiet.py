"""When a dropped file is taken: nothing about it has changed for a while; what our own commands drop, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexusd.config.keys import BY_NAME
from nexusd.spool import dropping
from nexusd.spool import outbox as outboxes
from nexusd.spool.outbox import EMPTY, HOLDS, LOOK_AGAIN, QUIET, UNLEASED, Look, Outbox
from tests.world import until


class Clock:
    def __init__(self) -> None:
        self.now = 1024.0  # sums with the spans below are exact

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


SPAN = 0.25  # the quiet time in these tests


def write(place: Path, name: str, text: str = "hi") -> Path:
    """As a plain writer does: under its name, at once."""
    path = place / name
    path.write_text(text)
    return path


def own(place: Path, text: str = "hi") -> str:
    return dropping.drop(str(place.parent), text).name


def ready(outbox: Outbox) -> list[str]:
    return [found.name for found in outbox.look(SPAN).ready]


def newer(path: Path, than: int) -> None:
    """Wait until the file system's times have moved on, then write it again."""
    until(lambda: path.write_text(path.read_text()) and path.stat().st_mtime_ns > than)


def test_case_131_a_plain_file_is_taken_when_nothing_has_changed_for_its_quiet_time(place, outbox, clock):
    write(place, "x")
    look = outbox.look(SPAN)
    assert (list(look.ready), look.waiting, look.again_in) == ([], 1, SPAN)
    clock.now += SPAN / 2
    assert outbox.look(SPAN).again_in == SPAN / 2  # to the moment, not from look to look
    clock.now += SPAN / 2
    (found,) = outbox.look(SPAN).ready
    assert outbox.is_done(found) is True


def test_case_131_the_quiet_time_is_200_ms_and_a_session_may_have_another(place, outbox):
    write(place, "x")
    assert outbox.look().again_in == pytest.approx(QUIET)
    assert BY_NAME["quiet"].parse(BY_NAME["quiet"].default, "/") == QUIET
    assert BY_NAME["quiet"].session
    assert outbox.look(3).again_in == 3
    assert ready_without(outbox) == ["x"]


def ready_without(outbox: Outbox) -> list[str]:
    return [found.name for found in outbox.look(0).ready]


def chmod(path: Path) -> None:
    path.chmod(0o644 if path.stat().st_mode & 0o77 == 0 else 0o600)


def touch(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def link(path: Path) -> None:
    os.link(path, path.with_name(".second"))
    path.with_name(".second").unlink()


def exchange(path: Path) -> None:
    path.with_name(".new").write_text("new")
    path.with_name(".new").rename(path)


def rename_away(path: Path) -> None:
    path.rename(path.with_name(".away"))
    path.with_name(".away").rename(path)


CHANGES = [chmod, touch, append, link, exchange, rename_away]


@pytest.mark.parametrize("change", CHANGES)
def test_case_132_whatever_changes_about_a_file_begins_its_quiet_time_anew(place, outbox, clock, change):
    path = write(place, "x")
    outbox.look(SPAN)
    clock.now += SPAN / 2
    before = path.stat().st_ctime_ns
    until(lambda: change(path) or path.stat().st_ctime_ns != before)
    assert outbox.look(SPAN).again_in == SPAN
    clock.now += SPAN / 2
    assert ready(outbox) == []
    clock.now += SPAN / 2
    assert ready(outbox) == ["x"]


@pytest.mark.parametrize("change", CHANGES)
def test_case_132_a_change_between_the_look_and_the_claim_is_seen_too(place, outbox, clock, change):
    path = write(place, "x")
    outbox.look(SPAN)
    clock.now += SPAN
    (found,) = outbox.look(SPAN).ready
    before = path.stat().st_ctime_ns
    until(lambda: change(path) or path.stat().st_ctime_ns != before)
    assert outbox.is_done(found) is False
    assert found.again_in == SPAN
    clock.now += SPAN
    (found,) = outbox.look(SPAN).ready
    assert outbox.is_done(found) is True


def test_case_132_a_file_that_may_not_be_read_yet_is_not_taken_before_its_quiet_time_either(
    place, outbox, clock, monkeypatch
):
    path = write(place, "x")
    outbox.look(SPAN)
    clock.now += SPAN

    def forbidden(_: str) -> int:
        raise PermissionError

    monkeypatch.setattr(outboxes, "open_plain", forbidden)
    (found,) = outbox.look(SPAN).ready
    before = path.stat().st_ctime_ns
    until(lambda: chmod(path) or path.stat().st_ctime_ns != before)
    assert outbox.is_done(found) is False
    clock.now += SPAN
    assert outbox.is_done(found) is True  # once claimed, that it cannot be read is said


def test_case_132_the_quiet_time_begins_when_the_writer_closes_the_file(place, outbox, clock):
    with (place / "x").open("w") as writer:
        writer.write("whole")
        writer.flush()
        outbox.look(SPAN)
        clock.now += 60
        (found,) = outbox.look(SPAN).ready
        assert outbox.is_done(found) is False
        assert found.again_in >= LOOK_AGAIN
    assert ready(outbox) == []  # its mode and times may be set now
    clock.now += SPAN
    assert ready(outbox) == ["x"]


def test_case_131_what_our_own_commands_drop_is_taken_at_once(place, outbox):
    name = own(place)
    (found,) = outbox.look(60).ready
    assert found.name == name
    assert outbox.is_done(found) is True


def test_case_131_an_own_drop_is_taken_at_once_also_where_there_are_no_leases(place, outbox, monkeypatch):
    monkeypatch.setattr(outboxes, "lease", lambda _: None)
    own(place)
    (found,) = outbox.look(SPAN).ready
    assert outbox.is_done(found) is True


def test_case_131_an_own_drop_waits_for_an_older_plain_file(place, outbox, clock):
    path = write(place, "zzz")
    mine = own(place)
    newer(place / mine, path.stat().st_mtime_ns)  # as if dropped in the next tick of the file system's clock ...
    (place / mine).rename(renamed := place / own_name(place / mine))  # ... under the name that says so
    look = outbox.look(SPAN)
    assert (list(look.ready), look.waiting, look.again_in) == ([], 2, SPAN)
    clock.now += SPAN
    assert ready(outbox) == ["zzz", renamed.name]


def own_name(path: Path) -> str:
    return f"{path.stat().st_mtime_ns:016x}-{0:018x}.txt"


def test_case_131_an_own_drop_goes_before_a_newer_plain_file(place, outbox, clock):
    mine = own(place)
    path = write(place, "000")
    newer(path, (place / mine).stat().st_mtime_ns)
    assert ready(outbox) == [mine]
    clock.now += SPAN
    assert ready(outbox) == [mine, "000"]


def test_case_131_plain_files_keep_their_order_whichever_comes_to_rest_first(place, outbox, clock):
    touch(write(place, "a"))
    os.utime(write(place, "b"), (2e9, 2e9))
    outbox.look(SPAN)
    clock.now += SPAN / 2
    before = (place / "a").stat().st_ctime_ns
    until(lambda: chmod(place / "a") or (place / "a").stat().st_ctime_ns != before)
    outbox.look(SPAN)
    clock.now += SPAN / 2
    assert ready(outbox) == []  # b is at rest, but a is older
    clock.now += SPAN / 2
    assert ready(outbox) == ["a", "b"]


def test_case_131_a_file_found_unfinished_at_its_turn_keeps_its_place(place, outbox, clock):
    touch(write(place, "a"))
    mine = own(place)
    outbox.look(SPAN)
    clock.now += SPAN
    look = outbox.look(SPAN)
    first = look.ready.popleft()
    before = (place / "a").stat().st_ctime_ns
    until(lambda: chmod(place / "a") or (place / "a").stat().st_ctime_ns != before)
    assert outbox.is_done(first) is False
    look.put_off(first)
    assert (list(look.ready), look.waiting, look.again_in) == ([], 2, SPAN)
    clock.now += SPAN
    assert ready(outbox) == ["a", mine]


def test_a_file_that_its_writer_keeps_open_holds_nobody_back(place, outbox, clock):
    with (place / "a").open("w") as writer:
        writer.write("half")
        writer.flush()
        touch(place / "a")
        mine = own(place)
        outbox.look(SPAN)
        clock.now += SPAN
        look = outbox.look(SPAN)
        first = look.ready.popleft()
        assert outbox.is_done(first) is False
        look.put_off(first)
        assert [found.name for found in look.ready] == [mine]
        assert ready(outbox) == [mine]


def test_a_file_that_never_comes_to_rest_holds_nobody_back_for_ever(place, outbox, clock):
    touch(write(place, "a"))
    mine = own(place)
    assert ready(outbox) == []
    began = clock.now
    while clock.now < began + SPAN + HOLDS:
        clock.now += SPAN / 2
        before = (place / "a").stat().st_ctime_ns
        until(lambda before=before: exchange(place / "a") or touch(place / "a") or ctime(place) != before)
        last = ready(outbox)
    assert last == [mine]


def ctime(place: Path) -> int:
    return (place / "a").stat().st_ctime_ns


def test_case_131_a_look_says_whether_a_file_will_be_ready_when_it_is_left_alone(place, outbox, clock):
    write(place, "empty", "")
    assert not outbox.look(SPAN).resting  # its writer may come back in a moment, or never
    write(place, "x")
    assert outbox.look(SPAN).resting
    clock.now += SPAN
    look = outbox.look(SPAN)
    assert not look.resting
    before = (place / "x").stat().st_ctime_ns
    until(lambda: chmod(place / "x") or (place / "x").stat().st_ctime_ns != before)
    drop = look.ready.popleft()
    assert outbox.is_done(drop) is False
    look.put_off(drop)
    assert look.resting
    with (place / "x").open("a"):
        clock.now += SPAN
        look = outbox.look(SPAN)
        drop = look.ready.popleft()
        assert outbox.is_done(drop) is False
        look.put_off(drop)
        assert not look.resting
        assert not outbox.look(SPAN).resting


def test_an_empty_file_waits_at_least_its_quiet_time(place, outbox):
    write(place, "x", "")
    assert outbox.look(SPAN).again_in == EMPTY
    assert outbox.look(60).again_in == 60


def test_case_79_where_no_lease_tells_an_older_file_holds_its_place_while_it_waits_longer(
    place, outbox, clock, monkeypatch
):
    monkeypatch.setattr(outboxes, "lease", lambda _: None)
    touch(write(place, "a"))
    mine = own(place)
    outbox.look(SPAN)
    clock.now += SPAN
    look = outbox.look(SPAN)
    first = look.ready.popleft()
    assert outbox.is_done(first) is False
    look.put_off(first)
    assert (list(look.ready), look.again_in) == ([], UNLEASED - SPAN)
    assert ready(outbox) == []
    clock.now += UNLEASED - SPAN
    assert ready(outbox) == ["a", mine]


def test_a_new_file_under_the_name_of_one_that_was_claimed_is_another_one(place, outbox, clock):
    write(place, "x")
    outbox.look(SPAN)
    clock.now += SPAN
    (found,) = outbox.look(SPAN).ready
    assert outbox.is_done(found) is True
    (place / "x").unlink()
    outbox.forget("x")
    clock.now += HOLDS
    touch(write(place, "x"))
    mine = own(place)
    assert ready(outbox) == []  # it is older than ours, and new
    clock.now += SPAN
    assert ready(outbox) == ["x", mine]


def test_nothing_is_left_of_a_look_that_was_put_off_twice():
    look = Look()
    drop = outboxes.Drop("x", (1, 1, 1, 1), False, 0.0, 0.0, again_in=0.5)
    look.put_off(drop)
    drop.again_in = 0.25
    look.put_off(drop)
    assert look.again_in == 0.25


# ---- what is an own drop


def test_own_drops_of_one_writer_are_in_the_order_of_their_names_and_times(place, outbox):
    names = [own(place, str(n)) for n in range(200)]
    assert names == sorted(names)
    until(lambda: len(outbox.look(0).ready) == 200)
    assert ready(outbox) == names


@pytest.mark.parametrize("payload", [None, {"a": 1}])
@pytest.mark.parametrize("text", [None, "hi"])
def test_every_form_of_drop_is_an_own_drop(place, outbox, text, payload):
    if text or payload:
        name = dropping.drop(str(place.parent), text, payload).name
        assert ready(outbox) == [name]


@pytest.mark.parametrize("change", [touch, append, exchange, link])
def test_an_own_drop_that_somebody_works_on_is_a_plain_file(place, outbox, change):
    name = own(place)
    before = (place / name).stat()
    if change is link:
        os.link(place / name, place / ".second")
    else:
        until(lambda: change(place / name) or (place / name).stat().st_mtime_ns != before.st_mtime_ns)
    assert ready(outbox) == []


@pytest.mark.parametrize(
    "name",
    [
        "reply.md.tmp.4711.18c2f0a1b2",
        "tmpab12cd.txt",
        "18c2f0a1b2c3d4e5-00000000000000000000.txt",
        "18c2f0a1b2c3d4e5-0000000000000000ab.md",
        "550e8400-e29b-41d4-a716-446655440000.txt",
    ],
)
def test_no_name_alone_makes_an_own_drop(place, outbox, name):
    write(place, name)
    assert ready(outbox) == []


def test_a_copy_of_a_sent_file_with_its_times_is_no_own_drop_after_a_minute(place, monkeypatch):
    name = own(place)
    status = (place / name).stat()
    assert dropping.is_own(name, status)
    monkeypatch.setattr(dropping, "_FRESH", status.st_ctime_ns - status.st_mtime_ns)
    assert not dropping.is_own(name, status)


def test_a_file_that_could_not_be_claimed_need_not_come_to_rest_again(place, outbox, clock):
    """A full disk refused it: who looks at what waits must find it, and not one that is not ready."""
    write(place, "x")
    outbox.look(SPAN)
    clock.now += SPAN
    (found,) = outbox.look(SPAN).ready
    assert outbox.is_done(found) is True
    assert ready(outbox) == ["x"]
