"""nexusd status, with real daemons."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time

import pytest

from nexusd.cli.service import overview, troubles
from tests.world import NEXUSD, until


def status(daemon, *words):
    """The exit status and what stdout says."""
    ran = daemon.command("status", *words, check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def well(daemon):
    return until(lambda: (seen := status(daemon))[0] == 0 and seen[1])


def test_all_is_well(pair):
    alice, _ = pair
    seen = well(alice)
    assert (seen["ok"], seen["troubles"], seen["config"]["rejected"]) == (True, [], [])
    daemon = seen["daemon"]
    assert (daemon["running"], daemon["stuck"], daemon["pid"]) == (True, False, alice.process.pid)
    assert daemon["since"]
    assert daemon["version"]
    assert "1 session" in daemon["says"]
    session = seen["sessions"][0]
    assert (session["session"], session["state"], session["unsent"], session["failed"]) == ("chat", "active", 0, 0)
    assert 500 < session["expiresIn"] <= 600
    assert session["lastPollAt"]
    assert seen["servers"][alice.server]["requests"] > 0


def test_a_daemon_that_does_not_run_is_said(pair):
    alice, _ = pair
    alice.drop("chat", "a.txt", "one")
    alice.receipt("chat", "a.txt")
    alice.stop()
    alice.drop("chat", "b.txt", "two")
    code, seen = status(alice)
    assert (code, seen["daemon"]["running"], seen["daemon"]["pid"]) == (1, False, None)
    assert "not running" in seen["troubles"][0]
    assert seen["sessions"][0]["unsent"] == 1
    alice.process = None


def test_a_daemon_that_was_killed_is_not_running_either(pair):
    alice, _ = pair
    well(alice)
    alice.kill()
    assert status(alice)[1]["daemon"]["running"] is False


def test_a_halted_daemon_is_said_at_once_and_a_stuck_one_by_its_silence(pair):
    alice, _ = pair
    well(alice)
    alice.process.send_signal(signal.SIGSTOP)
    code, seen = until(lambda: (found := status(alice))[1]["daemon"]["halted"] and found)
    assert code == 1
    assert f"kill -CONT {alice.process.pid}" in seen["troubles"][0]
    report = alice.root / "daemon.json"
    old = json.loads(report.read_text()) | {"at": "2026-01-01T00:00:00.000Z"}
    report.write_text(json.dumps(old))
    assert status(alice)[1]["daemon"]["stuck"] is True
    alice.process.send_signal(signal.SIGCONT)
    report.write_text(json.dumps(old))
    code, seen = status(alice)
    if not seen["daemon"]["halted"] and seen["daemon"]["stuck"]:  # before it reported again
        assert "is stuck" in seen["troubles"][0]
    well(alice)


def test_a_stuck_daemon_is_said_when_nothing_shows_that_it_is_halted(pair, monkeypatch):
    alice, _ = pair
    well(alice)
    alice.process.send_signal(signal.SIGSTOP)
    report = alice.root / "daemon.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"at": "2026-01-01T00:00:00.000Z"}))
    monkeypatch.setattr(overview, "_halted", lambda _: False)
    seen = overview.overview(str(alice.config))
    assert (seen["daemon"]["running"], seen["daemon"]["stuck"]) == (True, True)
    assert f"nexusd (pid {alice.process.pid}) is stuck" in troubles.troubles(seen)[0]


def test_a_daemon_that_has_just_started_is_not_stuck_for_an_old_report(pair):
    alice, _ = pair
    alice.stop()
    report = alice.root / "daemon.json"
    report.write_text(json.dumps({"pid": 1, "at": "2026-01-01T00:00:00.000Z"}))
    alice.start(ready=False)
    until(lambda: status(alice)[1]["daemon"]["running"])
    assert status(alice)[1]["daemon"]["stuck"] is False
    well(alice)


@pytest.mark.parametrize("broken", ['poll_interval = "soon"\n', "= = =\n", "[sessions.x\n"])
def test_a_rejected_configuration_is_shown_and_the_sessions_still_are(pair, broken):
    alice, _ = pair
    well(alice)
    alice.config.write_text(alice.config.read_text().replace("poll_interval", "# poll_interval", 1) + broken)
    code, seen = until(lambda: (found := status(alice))[1]["config"]["rejected"] and found)
    assert code == 1
    assert str(alice.config) in seen["config"]["rejected"][0]
    assert "the old one is in force" in seen["troubles"][0]
    assert [session["session"] for session in seen["sessions"]] == ["chat"]
    assert seen["daemon"]["running"] is True
    alice.configure()
    well(alice)


def test_a_configuration_replaced_by_a_folder_is_shown(pair):
    alice, _ = pair
    well(alice)
    alice.config.unlink()
    alice.config.mkdir()
    ran = alice.command("status", check=False)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "it is a folder; move it away" in json.loads(ran.stdout)["config"]["rejected"][0]


def test_a_failed_file_is_news_for_a_day(pair):
    alice, _ = pair
    alice.drop("chat", "bad.json", "{")
    alice.error("chat", "bad.json")
    code, seen = until(lambda: (found := status(alice, "chat"))[1]["sessions"][0]["failed"] and found)
    assert code == 1
    assert "nexusd release chat" in seen["troubles"][0]
    note = alice.folder("chat") / "failed" / "bad.json.error.json"
    os.utime(note, (time.time() - 90_000, time.time() - 90_000))
    code, seen = status(alice)
    assert (code, seen["sessions"][0]["failed"]) == (0, 1)
    assert 89_000 < seen["sessions"][0]["oldestFailed"] < 91_000


def test_a_file_that_waits_for_long_needs_a_person(pair, relay):
    alice, _ = pair
    well(alice)
    relay.stop()
    path = alice.drop("chat", "a.txt", "hello?")
    with_time = time.time() - 3000
    os.utime(path, (with_time, with_time))
    code, seen = status(alice)
    assert code == 1
    assert "1 unsent, the oldest for 50 min" in seen["troubles"][0]


def test_a_session_that_cannot_be_opened_is_shown_with_the_reason(pair):
    alice, _ = pair
    session = next(alice.client_dir.joinpath("sessions").iterdir())
    alice.stop()
    (session / "server").write_text("https://elsewhere.invalid\n")
    alice.configure(sessions="")
    dropin = alice.home / "sessions.d" / "chat.toml"
    dropin.write_text(dropin.read_text() + 'server = "https://other.invalid"\n')
    alice.start()
    code, seen = until(lambda: (found := status(alice))[1]["sessions"][0]["state"] == "blocked" and found)
    assert code == 1
    assert "elsewhere.invalid" in seen["troubles"][0]


def test_an_unknown_name_is_answered_with_the_nearest(pair):
    alice, _ = pair
    ran = alice.command("status", "chta", check=False)
    assert ran.returncode == 2
    assert "did you mean chat?" in ran.stderr
    assert json.loads(ran.stdout)["error"] == "unknown_session"


def test_no_sessions_and_no_daemon(relay, daemons):
    alice = daemons("alice", relay.url)
    code, seen = status(alice)
    assert (code, seen["sessions"], len(seen["troubles"])) == (1, [], 1)


def test_watch_into_a_pipe_is_a_line_for_each_change(pair):
    alice, _ = pair
    well(alice)
    watching = subprocess.Popen(
        [*NEXUSD, "status", "--watch", "--config", str(alice.config)], stdout=subprocess.PIPE, text=True
    )
    first = json.loads(watching.stdout.readline())
    assert first["sessions"][0]["failed"] == 0
    alice.drop("chat", "bad.json", "{")
    until(lambda: json.loads(watching.stdout.readline())["sessions"][0]["failed"] == 1)
    watching.stdout.close()
    alice.drop("chat", "worse.json", "{")
    assert watching.wait(30) == 141


def test_watch_on_a_terminal_redraws_a_table(pair):
    alice, _ = pair
    well(alice)
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        [*NEXUSD, "status", "--watch", "--config", str(alice.config)], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while shown.count(b"\x1b[H") < 2:
        shown += os.read(ours, 65_536)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 130
    os.close(ours)
    for word in (b"SESSION", b"chat", b"active"):
        assert word in shown
    assert b"{" not in shown


def test_no_secret_is_shown(pair):
    alice, _ = pair
    session = next(alice.client_dir.joinpath("sessions").iterdir())
    ran = alice.command("status", check=False)
    assert session.name not in ran.stdout + ran.stderr


def test_files_that_wait_where_no_session_is_are_said_until_they_are_taken_care_of(pair, relay):
    """A session's file renamed by hand, or a script that still drops files for one that was removed."""
    alice, bob = pair
    well(alice)
    files = alice.home / "sessions.d"
    (files / "chat.toml").rename(files / "talk.toml")
    until(lambda: [s["session"] for s in status(alice)[1]["sessions"]] == ["talk"])
    alice.drop("chat", "late.txt", "to nobody")
    folder = alice.folder("chat")
    code, seen = status(alice)
    assert code == 1
    assert seen["troubles"][-1].startswith(f"1 unsent in {folder}, and no session is called chat")
    assert [(place["folder"], place["unsent"]) for place in seen["unserved"]] == [(str(folder), 1)]
    assert status(alice, "talk")[1]["unserved"] == []
    found = json.loads(alice.command("doctor", check=False).stdout)["findings"]
    assert [one["level"] for one in found if one["what"] == f"folder {folder}"] == ["warn"]
    (files / "talk.toml").rename(files / "chat.toml")
    until(lambda: bob.texts("chat") == ["to nobody"])
    assert well(alice)["unserved"] == []


def test_a_persons_own_folder_beside_the_sessions_is_not_looked_at(pair):
    alice, _ = pair
    (alice.root / "project" / "outbox").mkdir(parents=True)
    (alice.root / "project" / "outbox" / "x").write_text("not ours")
    assert well(alice)["unserved"] == []


@pytest.mark.parametrize("words", [("status",), ("remove",), ("release", "a.txt")])
@pytest.mark.parametrize("wrapped", ["{}", "<{}>", "X{}"])
def test_an_id_in_the_place_of_a_name_is_not_repeated(pair, words, wrapped):
    alice, _ = pair
    identity = next(path.name for path in (alice.client_dir / "sessions").iterdir())
    verb, *more = words
    ran = alice.command(verb, wrapped.format(identity), *more, check=False)
    assert ran.returncode
    assert identity not in ran.stdout + ran.stderr
