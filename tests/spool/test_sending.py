"""Claimed files, and a crash at every step of their way."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from nexusd.errors import Refusal
from nexusd.spool import sending as sendings
from nexusd.spool.sending import Claimed, Intent, Outcome, Sending, settle
from nexusd.spool.ulid import born

SENT = Outcome(sent=True, note={"id": "m1", "cursor": "5"})
FAILED = Outcome(sent=False, note={"error": "refused"})


class Crash(BaseException):
    """The process ends in front of this step."""


@pytest.fixture
def sending(folder) -> Sending:
    return Sending(folder)


def drop(folder, name: str = "hello.txt", text: str = "hi") -> None:
    (Path(folder.outbox) / name).write_text(text)


def below(path: str) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*"))


def places(folder) -> dict[str, int]:
    """How many times each place holds the one file; notes and intents left out."""
    counts = {"outbox": 0, "sending": 0, "sent": 0, "failed": 0}
    for place in ("outbox", "sent", "failed"):
        files = os.listdir(os.path.join(folder.path, place))
        counts[place] = sum(1 for f in files if not f.endswith((".receipt.json", ".error.json", ".tmp")))
    counts["sending"] = sum(1 for p in Path(folder.sending).glob("*/*"))
    return {place: count for place, count in counts.items() if count}


# ---- one step after the other


def test_a_claim_is_one_rename_and_remembers_when_the_file_was_dropped(folder, sending):
    drop(folder)
    os.utime(os.path.join(folder.outbox, "hello.txt"), (1e9, 1e9))
    claimed = sending.claim("hello.txt")
    assert os.listdir(folder.outbox) == []
    assert below(folder.sending) == [claimed.ulid, f"{claimed.ulid}/hello.txt"]
    assert (claimed.name, claimed.dropped_at, claimed.intent) == ("hello.txt", 1e9, Intent())
    assert abs(claimed.claimed_at - time.time()) < 60
    assert claimed.claimed_at == born(claimed.ulid)


def test_a_file_that_was_taken_back_first_is_not_claimed_and_leaves_nothing(folder, sending):
    assert sending.claim("hello.txt") is None
    assert below(folder.sending) == []


def test_the_same_name_can_be_claimed_while_the_first_is_under_way(folder, sending, monkeypatch):
    for n, text in enumerate(("one", "two")):
        monkeypatch.setattr(time, "time_ns", lambda n=n: (1_700_000_000_000 + n) * 1_000_000)
        drop(folder, text=text)
        sending.claim("hello.txt")
    assert [sending.read(c, 100) for c in sending.pending()] == [b"one", b"two"]


def test_an_intent_comes_back_as_it_was(folder, sending):
    drop(folder)
    claimed = sending.claim("hello.txt")
    claimed.intent = Intent(sha256="x", cursor=10**25, epoch=2, attempts=3, posted_at=1.5, doubtful=True, doubts=2)
    claimed.intent.duplicate = True
    sending.note(claimed)
    (found,) = Sending(folder).pending()
    assert (found.ulid, found.name, found.intent) == (claimed.ulid, claimed.name, claimed.intent)


@pytest.mark.parametrize("data", [b"", b"{", b"\0" * 50, b'{"attempts":"x"}', b"[" * 100_000])
def test_an_intent_that_cannot_be_read_is_a_post_in_doubt(folder, sending, data):
    drop(folder)
    claimed = sending.claim("hello.txt")
    Path(folder.sending, f"{claimed.ulid}.json").write_bytes(data)
    (found,) = sending.pending()
    assert (found.intent.doubtful, found.intent.attempts) == (True, 1)


def test_without_an_intent_nothing_was_posted(folder, sending):
    drop(folder)
    sending.claim("hello.txt")
    (found,) = sending.pending()
    assert (found.intent.doubtful, found.intent.attempts, found.intent.outcome) == (False, 0, None)


def test_pending_files_come_oldest_first(folder, sending, monkeypatch):
    for n, name in enumerate("cab"):
        monkeypatch.setattr(time, "time_ns", lambda n=n: (1_700_000_000_000 + n) * 1_000_000)
        drop(folder, name)
        sending.claim(name)
    assert [c.name for c in sending.pending()] == ["c", "a", "b"]


def test_an_end_moves_the_file_with_its_note_and_leaves_nothing_behind(folder, sending):
    for outcome, place, note in ((SENT, folder.sent, "x.receipt.json"), (FAILED, folder.failed, "x.error.json")):
        drop(folder, "x")
        claimed = sending.claim("x")
        sending.finish(claimed, outcome)
        assert below(place) == ["x", note]
        assert json.loads(Path(place, note).read_text()) == outcome.note
        assert Path(place, "x").read_text() == "hi"
    assert below(folder.sending) == []


def test_the_first_decision_counts(folder, sending, monkeypatch):
    drop(folder)
    claimed = sending.claim("hello.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sendings, "settle", lambda *_, **__: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            sending.finish(claimed, SENT)
    (found,) = Sending(folder).pending()
    assert found.intent.outcome == SENT


def test_the_file_is_read_whole_or_not_at_all(folder, sending):
    drop(folder, text="x" * 100)
    claimed = sending.claim("hello.txt")
    path = Path(folder.sending, claimed.ulid, claimed.name)
    with path.open("a") as writer:
        assert sending.read(claimed, 1000) is None
        writer.write("y")
    assert sending.read(claimed, 1000) == b"x" * 100 + b"y"
    assert sending.read(claimed, 50) == b"x" * 51  # enough to see that it is too long


def test_what_is_no_plain_file_is_not_read(folder, sending):
    os.mkfifo(os.path.join(folder.outbox, "pipe"))
    with pytest.raises(Refusal):
        sending.read(sending.claim("pipe"), 10)
    os.symlink("/etc/passwd", os.path.join(folder.outbox, "link"))
    with pytest.raises(OSError, match="symbolic links"):
        sending.read(sending.claim("link"), 10)


def test_the_intent_and_the_claim_are_on_the_disk_before_anything_is_posted(folder, sending, monkeypatch):
    drop(folder)
    claimed = sending.claim("hello.txt")
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
    sending.note(claimed)
    home = os.path.join(folder.sending, claimed.ulid)
    assert {folder.sending, home, folder.outbox} <= {os.path.realpath(path) for path in synced}
    assert any(path.endswith(".tmp") for path in synced)


# ---- a crash at every step

STEPS = ("mkdir", "rename", "replace", "rmdir", "unlink", "fsync")


def crash_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """End the process in front of its nth change to the disk."""
    left = [step]
    for name in STEPS:
        real = getattr(os, name)

        def one(*given: object, real=real, **more: object) -> object:
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return real(*given, **more)

        patch.setattr(os, name, one)


def life(folder, outcome: Outcome, posts: list[str]) -> None:
    """What a daemon does with one file, from wherever an earlier life left it."""
    sending = Sending(folder)
    pending = sending.pending()
    if not pending and os.path.exists(os.path.join(folder.outbox, "x")):
        claimed = sending.claim("x")
        pending = [claimed] if claimed else []
    for claimed in pending:
        if claimed.intent.outcome is None:
            if claimed.intent.doubtful:
                posts.append("looked")
            else:
                claimed.intent.doubtful, claimed.intent.attempts = True, 1
                sending.note(claimed)
                posts.append("posted")
        sending.finish(claimed, claimed.intent.outcome or outcome)


@pytest.mark.parametrize("outcome", [SENT, FAILED])
@pytest.mark.parametrize("older", [0, 1, 3])
def test_a_crash_at_any_step_loses_nothing_doubles_nothing_and_posts_once(folder, outcome, older):
    into = folder.sent if outcome.sent else folder.failed
    suffix = ".receipt.json" if outcome.sent else ".error.json"

    def world() -> None:
        for place in (folder.outbox, folder.sending, folder.sent, folder.failed):
            for path in sorted(Path(place).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        for n in range(older):
            aside = Path(folder.outbox, ".x")
            aside.write_text(f"old {n}")
            settle(str(aside), into, "x", {"n": n}, sent=outcome.sent)
        drop(folder, "x", "new")

    for step in range(1000):
        world()
        posts: list[str] = []
        crashed = False
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, step)
            try:
                life(folder, outcome, posts)
            except Crash:
                crashed = True
        assert sum(places(folder).values()) == 1 + older, step
        life(folder, outcome, posts)
        life(folder, outcome, posts)
        assert posts.count("posted") == 1 or posts == ["looked"], step
        assert below(folder.sending) == [], step
        assert os.listdir(folder.outbox) == [], step
        assert Path(into, "x").read_text() == "new", step
        assert json.loads(Path(into, f"x{suffix}").read_text()) == outcome.note, step
        for n in range(older):
            assert Path(into, f"x.{n + 1}").read_text() == f"old {n}", step
            assert json.loads(Path(into, f"x.{n + 1}{suffix}").read_text()) == {"n": n}, step
        assert sorted(f for f in os.listdir(into) if not f.endswith(".tmp")) == sorted(
            name + end for name in ["x", *(f"x.{n + 1}" for n in range(older))] for end in ("", suffix)
        )
        if not crashed:
            break
    else:
        pytest.fail("it never came to its end")
    assert step > 10


def test_the_control_a_note_after_the_move_would_be_lost_in_a_crash(folder, monkeypatch):
    def careless(path, into, name, note, *, sent):
        os.rename(path, os.path.join(into, name))
        sendings.atomic.replace(os.path.join(into, name + ".receipt.json"), b"{}")

    monkeypatch.setattr(sendings, "settle", careless)
    without = 0
    for step in range(100):
        drop(folder, "x")
        try:
            with pytest.MonkeyPatch.context() as patch:
                crash_at(patch, step)
                life(folder, SENT, [])
        except Crash:
            life(folder, SENT, [])
            without += not os.path.exists(os.path.join(folder.sent, "x.receipt.json"))
        else:
            break
        for path in Path(folder.sent).iterdir():
            path.unlink()
    assert without


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("an empty home: died between making it and the rename", []),
        ("an intent alone: died while tidying up", []),
        ("a temporary file: died while replacing an intent", []),
        ("an outcome and an empty home: moved, not tidied", []),
    ],
)
def test_leftovers_of_a_crash_are_tidied_up(folder, sending, state, left):
    home = Path(folder.sending, "01AAAAAAAAAAAAAAAAAAAAAAAA")
    if "home" in state:
        home.mkdir()
    if "intent" in state or "outcome" in state:
        Path(f"{home}.json").write_bytes(msgspec.json.encode(Intent(outcome=SENT)))
    if "temporary" in state:
        Path(folder.sending, ".0123.tmp").write_bytes(b"{")
    assert sending.pending() == left
    assert below(folder.sending) == []


# ---- names


def end(folder, name: str, text: str, n: int) -> None:
    path = Path(folder.outbox, ".aside")
    path.write_text(text)
    settle(str(path), folder.sent, name, {"n": n}, sent=True)


def test_an_older_one_of_that_name_steps_aside_with_its_receipt(folder):
    for n in range(40):
        end(folder, "x", f"text {n}", n)
    assert Path(folder.sent, "x").read_text() == "text 39"
    for n in range(39):
        assert Path(folder.sent, f"x.{n + 1}").read_text() == f"text {n}"
        assert json.loads(Path(folder.sent, f"x.{n + 1}.receipt.json").read_text()) == {"n": n}
    assert len(os.listdir(folder.sent)) == 80


def test_a_hole_in_the_numbers_overwrites_nothing(folder):
    for n in range(9):
        end(folder, "x", f"text {n}", n)
    for gone in (2, 4, 5):
        Path(folder.sent, f"x.{gone}").unlink()
    before = {path: path.read_text() for path in Path(folder.sent).glob("x.[0-9]")}
    for n in range(9, 20):
        end(folder, "x", f"text {n}", n)
    assert all(path.read_text() == text for path, text in before.items())
    assert {p.read_text() for p in Path(folder.sent).iterdir() if "receipt" not in p.name} >= {
        f"text {n}" for n in range(8, 20)
    }


def test_a_dropped_name_that_looks_like_one_that_stepped_aside_is_a_name_of_its_own(folder):
    for n, name in enumerate(["x", "x", "x.1", "x", "x.1"]):
        end(folder, name, f"text {n}", n)
    texts = {p.read_text() for p in Path(folder.sent).iterdir() if "receipt" not in p.name}
    assert texts == {f"text {n}" for n in range(5)}
    assert len(os.listdir(folder.sent)) == 10


@pytest.mark.parametrize(
    "name", [b"x" * 255, "é".encode() * 127, b"\xff" * 255, b"a" + b"\xe2\x82" * 120, b"\xff" * 201, b"n\n" * 110]
)
def test_a_name_too_long_for_a_note_beside_it_is_shortened_and_tells_apart(folder, name):
    path = os.path.join(os.fsencode(folder.outbox), name)
    for n in range(2):
        with open(path, "w") as file:
            file.write(f"text {n}")
        settle(os.fsdecode(path), folder.failed, os.fsdecode(name), {"n": n}, sent=False)
    files = [f for f in os.listdir(folder.failed) if not f.endswith(".error.json")]
    assert len(files) == 2
    assert {Path(folder.failed, f).read_text() for f in files} == {"text 0", "text 1"}
    assert all(os.path.exists(os.path.join(folder.failed, f + ".error.json")) for f in files)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"x" * 200, b"\xff" * 200, b"-", b" "])
def test_an_odd_name_keeps_its_bytes_from_the_outbox_to_its_end(folder, sending, name):
    with open(os.path.join(os.fsencode(folder.outbox), name), "w") as file:
        file.write("hi")
    claimed = sending.claim(os.fsdecode(name))
    sending.note(claimed)
    (found,) = Sending(folder).pending()
    sending.finish(found, SENT)
    assert sorted(os.listdir(os.fsencode(folder.sent))) == sorted([name, name + b".receipt.json"])


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_what_was_refused_is_moved_without_being_read(folder, what):
    path = os.path.join(folder.outbox, "x")
    if what == "folder":
        os.mkdir(path)
        Path(path, "inside").write_text("kept")
    elif what == "link":
        os.symlink("/nowhere", path)
    else:
        os.mkfifo(path)
    settle(path, folder.failed, "x", {"error": what}, sent=False)
    assert os.listdir(folder.outbox) == []
    assert os.path.lexists(os.path.join(folder.failed, "x"))
    if what == "folder":
        assert Path(folder.failed, "x", "inside").read_text() == "kept"
    assert json.loads(Path(folder.failed, "x.error.json").read_text()) == {"error": what}


def test_a_claim_has_no_secret_to_show():
    assert repr(Claimed("01", "x", Intent(), 1.0)).startswith("Claimed(")
    assert sendings.digest(b"hi") == "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"


def test_what_somebody_else_left_among_the_claimed_files_is_passed_over(folder, sending):
    drop(folder)
    claimed = sending.claim("hello.txt")
    (Path(folder.sending) / "notes").write_text("mine")
    (Path(folder.sending) / "a folder").mkdir()
    assert [c.ulid for c in sending.pending()] == [claimed.ulid]
    assert (Path(folder.sending) / "notes").exists()


# ---- what somebody else lays beside a claimed file


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("stray", [".c1.swp", "other.txt", "a-folder"])
def test_what_lies_beside_a_claimed_file_stops_nothing_and_is_never_taken_for_it(folder, sending, stray, noted):
    drop(folder)
    claimed = sending.claim("hello.txt")
    if noted:
        sending.note(claimed)
    beside = Path(folder.sending) / claimed.ulid / stray
    beside.mkdir() if stray == "a-folder" else beside.write_text("not ours")
    (again,) = Sending(folder).pending()
    assert again.name == "hello.txt"
    sending.finish(again, SENT)
    assert places(folder)["sent"] == 1
    assert Sending(folder).pending() == []
    assert (Path(folder.own) / f"stray-{claimed.ulid}" / stray).exists()
    assert os.listdir(folder.sending) == []
    assert not Path(f"{folder.sending}/{claimed.ulid}.json").exists()


def test_what_is_left_beside_a_file_that_came_to_its_end_is_not_sent_after_a_crash(folder, sending, monkeypatch):
    drop(folder)
    claimed = sending.claim("hello.txt")
    sending.note(claimed)
    (Path(folder.sending) / claimed.ulid / "other.txt").write_text("not ours")
    with monkeypatch.context() as patch:
        patch.setattr(Sending, "_tidy", lambda *_: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            sending.finish(claimed, SENT)
    assert Sending(folder).pending() == []
    assert places(folder)["sent"] == 1


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("older", [True, False])
def test_what_stands_in_a_notes_place_steps_aside(folder, sending, sent, older):
    into = Path(folder.sent if sent else folder.failed)
    note = f"hello.txt{'.receipt.json' if sent else '.error.json'}"
    if older:
        (into / "hello.txt").write_text("older")
        (into / f"hello.txt.1{note.removeprefix('hello.txt')}").mkdir()
    (into / note).mkdir()
    drop(folder)
    sending.finish(sending.claim("hello.txt"), SENT if sent else FAILED)
    assert (into / "hello.txt").read_text() == "hi"
    assert json.loads((into / note).read_text())
    assert not older or (into / "hello.txt.2").read_text() == "older"
