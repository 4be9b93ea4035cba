"""nexusd release, with real daemons."""

from __future__ import annotations

import json
import os

import pytest

from tests.world import until


def release(daemon, *words):
    ran = daemon.command("release", *words, check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran, json.loads(ran.stdout)


def failed(daemon, name, data=b"{", error="not_json"):
    """A file in failed/ and its reason, as the daemon leaves them."""
    path = daemon.folder("chat") / "failed" / name
    path.write_bytes(data)
    path.with_name(f"{name}.error.json").write_text(json.dumps({"error": error, "message": "no", "remedy": "mend it"}))
    return path


def test_a_mended_file_is_released_and_sent(pair):
    alice, bob = pair
    alice.drop("chat", "bad.json", "{")
    alice.error("chat", "bad.json")
    (alice.folder("chat") / "failed" / "bad.json").write_text('{"n": 1}')
    ran, said = release(alice, "chat", "bad.json")
    assert ran.returncode == 0, ran.stderr
    assert said == {"session": "chat", "file": "bad.json", "released": "bad.json", "was": "not_json"}
    assert until(lambda: bob.inbox("chat"))[0]["json"] == {"n": 1}
    until(lambda: alice.places("chat") == {"bad.json": ["sent"]})
    assert not list((alice.folder("chat") / "failed").iterdir())


def test_a_file_in_the_outbox_is_never_overwritten(pair):
    alice, _ = pair
    alice.stop()
    for name in ("x.msg.json", "y.json", "z.txt", "plain"):
        failed(alice, name, b"old")
        alice.drop("chat", name, "new")
    outbox = alice.folder("chat") / "outbox"
    for name, other in (("x.msg.json", "x-2.msg.json"), ("y.json", "y-2.json"), ("z.txt", "z-2.txt")):
        ran, said = release(alice, "chat", name)
        assert said["released"] == other
        assert other in ran.stderr
        assert ((outbox / name).read_text(), (outbox / other).read_text()) == ("new", "old")
    assert release(alice, "chat", "plain")[1]["released"] == "plain-2"


def test_a_file_that_stepped_aside_is_still_what_it_was(pair):
    alice, _ = pair
    alice.stop()
    failed(alice, "x.json.2", b"{}")
    failed(alice, "notes.1", b"text")
    assert release(alice, "chat", "x.json.2")[1]["released"] == "x.json"
    assert release(alice, "chat", "notes.1")[1]["released"] == "notes.1"


def test_a_file_held_for_a_secret_is_marked_so_that_it_passes(pair):
    alice, _ = pair
    alice.stop()
    failed(alice, "a.txt", b"AKIA...", error="held_secret")
    alice.drop("chat", "b.txt", "in the way")
    failed(alice, "b.txt", b"AKIA...", error="held_secret")
    failed(alice, "c.txt", b"c")
    for name in ("a.txt", "b.txt", "c.txt"):
        assert release(alice, "chat", name)[0].returncode == 0
    marks = alice.folder("chat") / ".nexusd" / "released"
    assert sorted(os.listdir(marks)) == ["a.txt", "b-2.txt"]


@pytest.mark.parametrize(
    ("error", "message", "doubtful"),
    [
        ("ambiguous", "posted 3 times", True),
        ("expired", "the session does not exist any more; one of its posts may have arrived", True),
        ("expired", "the session does not exist any more", False),
    ],
)
def test_the_receipt_of_a_file_that_may_have_arrived_before_its_release_says_so(pair, error, message, doubtful):
    alice, bob = pair
    path = failed(alice, "x", b"again", error)
    note = {"error": error, "message": message, "remedy": "ask"}
    path.with_name("x.error.json").write_text(json.dumps(note))
    assert release(alice, "chat", "x")[0].returncode == 0
    assert alice.receipt("chat", "x")["possibleDuplicate"] is doubtful
    until(lambda: bob.texts("chat") == ["again"])
    alice.drop("chat", "x", "another file of that name")
    until(lambda: bob.texts("chat") == ["again", "another file of that name"])
    until(lambda: alice.receipt("chat", "x")["possibleDuplicate"] is False)


def test_a_release_takes_nothing_back_of_what_was_said_of_another_file_of_that_name(pair):
    alice, _ = pair
    alice.stop()
    for error in ("ambiguous", "held_secret"):
        failed(alice, "x", b"text", error=error)
        assert release(alice, "chat", "x")[0].returncode == 0
    marks = alice.folder("chat") / ".nexusd" / "released"
    assert {path.name: path.read_text() for path in marks.iterdir()} == {"x": "doubtful\n", "x-2": ""}


def test_what_would_only_come_back_is_refused_with_the_reason(pair):
    alice, _ = pair
    alice.stop()
    folder = alice.folder("chat") / "failed"
    (folder / "link").symlink_to(alice.config)
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "x.receipt.json").write_text("{}")
    (folder / "draft~").write_text("x")
    wanted = {
        "link": "link",
        "pipe": "not_a_file",
        "folder": "folder",
        "x.receipt.json": "reserved_name",
        "draft~": "unfinished_name",
    }
    for name, code in wanted.items():
        ran, said = release(alice, "chat", name)
        assert (ran.returncode, said["error"]) == (1, code)
        assert os.path.lexists(folder / name)


def test_what_is_not_there_is_answered_with_the_nearest(pair):
    alice, _ = pair
    failed(alice, "report.txt")
    ran, said = release(alice, "chat", "reprot.txt")
    assert (ran.returncode, said["error"]) == (1, "no_such_file")
    assert "did you mean report.txt?" in ran.stderr
    assert release(alice, "chta", "report.txt")[1]["message"].endswith("did you mean chat?")
    for name in ("../outbox/x", "..", "report.txt.error.json"):
        assert release(alice, "chat", name)[0].returncode == 2
    assert release(alice, "../..", "x")[0].returncode == 1


def test_a_session_that_nobody_serves_is_said(pair):
    alice, _ = pair
    failed(alice, "a.txt", b"x")
    alice.command("remove", "chat")
    ran, _ = release(alice, "chat", "a.txt")
    assert ran.returncode == 0
    assert "not configured" in ran.stderr


def test_a_session_whose_folder_is_not_there_is_not_called_unknown(pair):
    alice, _ = pair
    alice.stop()
    alice.folder("chat").rename(alice.home / "elsewhere")
    ran, said = release(alice, "chat", "x.txt")
    assert said["error"] == "no_folder"
    assert "nexusd status chat" in ran.stderr
