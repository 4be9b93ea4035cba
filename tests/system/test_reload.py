"""The configuration changes while the daemon runs."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.world import until


def report(daemon):
    return json.loads((daemon.root / "daemon.json").read_text())


def events(daemon, name):
    return [e for e in daemon.events() if e["event"] == name]


def test_sessions_that_come_and_go_while_others_are_being_closed(relay, daemons):
    alice = daemons("alice", relay.url)
    for n in range(8):
        alice.add(f"s{n}", "--create")
    alice.start()
    until(lambda: len(report(alice)["sessions"]) == 8)
    for n in range(8):
        (alice.home / "sessions.d" / f"s{n}.toml").unlink()
        time.sleep(0.12)
    until(lambda: len(events(alice, "session.removed")) == 8)
    assert not [e for e in alice.events() if "exception" in e or e["level"] == "error"]
    assert "Traceback" not in (alice.home / "log").read_text()
    until(lambda: report(alice)["sessions"] == {})


def test_a_blocked_session_that_is_removed_is_forgotten(pair):
    alice, _ = pair
    alice.stop()
    dropin = alice.home / "sessions.d" / "chat.toml"
    text = dropin.read_text()
    dropin.write_text(text + 'server = "https://other.invalid"\n')
    alice.start()
    until(lambda: report(alice)["sessions"]["chat"]["state"] == "blocked")
    dropin.unlink()
    until(lambda: report(alice)["sessions"] == {})


def test_a_root_that_changes_counts_from_the_next_start(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.add("one", "--create")
    alice.start()
    alice.configure(extra='root = "elsewhere"\npoll_interval = "300ms"')
    until(lambda: events(alice, "config.restart_needed"))
    alice.configure(extra='root = "nexus"')
    alice.add("two", "--create")
    until((alice.root / "two" / "outbox").is_dir)
    assert not (alice.home / "elsewhere").exists()
    assert len(events(alice, "config.restart_needed")) == 1


def test_a_busy_neighbour_of_the_file_does_not_put_a_reload_off(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.start()
    end = time.monotonic() + 3.0
    alice.configure(extra='poll_interval = "300ms"')
    while time.monotonic() < end and not events(alice, "config.reloaded"):
        (alice.home / "neighbour").write_text(str(time.monotonic()))
        time.sleep(0.02)
    assert events(alice, "config.reloaded")


def test_another_limit_holds_at_once(pair):
    alice, bob = pair
    until(lambda: alice.view("chat")["state"] == "active")
    alice.configure(extra="requests_per_minute = 1")
    until(lambda: events(alice, "config.reloaded"))
    for n in range(15):  # more than the bucket holds
        alice.drop("chat", f"{n:02}.txt", f"{n}")
    time.sleep(2.0)
    assert len(bob.texts("chat")) < 15
    alice.configure(extra="requests_per_minute = 0")
    until(lambda: len(bob.texts("chat")) == 15, patience=10)


@pytest.mark.parametrize("proxy", ["nonsense", "ftp://x", "http://"])
def test_a_proxy_that_is_none_is_a_fault_of_the_configuration(relay, daemons, proxy):
    alice = daemons("alice", relay.url)
    alice.configure(extra=f'proxy = "{proxy}"')
    ran = alice.command("run", check=False)
    assert ran.returncode == 78
    assert "proxy: must be a URL" in ran.stderr


def test_the_configuration_is_followed_where_no_event_tells(pair):
    alice, _ = pair
    files, away = alice.home / "sessions.d", alice.home / "away"
    files.rename(away)  # what was watched is elsewhere now
    files.mkdir(0o700)
    until(lambda: events(alice, "session.removed"))
    files.rmdir()
    away.rename(files)
    until(lambda: list(report(alice)["sessions"]) == ["chat"], patience=70)


@pytest.mark.parametrize("hand", ["record", "configuration"])
def test_nothing_is_sent_as_somebody_else_whichever_of_the_two_a_hand_has_changed(pair, hand):
    alice, bob = pair
    record = next(alice.client_dir.glob("sessions/*/agent"))
    dropin = alice.home / "sessions.d" / "chat.toml"
    if hand == "record":
        alice.stop()
    path = record if hand == "record" else dropin
    before = path.read_text()
    path.write_text(before.replace("alice", "mallory"))
    if hand == "record":
        alice.start()
    until(lambda: "mallory" in str(report(alice)["sessions"]["chat"]["lastError"]))
    until(lambda: alice.view("chat")["state"] == "blocked")
    assert "says that we are" in alice.view("chat")["lastError"]
    alice.drop("chat", "a.txt", "from alice")
    path.write_text(before)
    if hand == "record":
        alice.process.send_signal(signal.SIGHUP)
    until(lambda: bob.texts("chat") == ["from alice"])
    assert {line["agentId"] for line in bob.inbox("chat") if line["kind"] == "message"} == {"alice"}


def test_the_sessions_go_on_while_the_folder_of_their_files_is_away_and_that_is_said(pair):
    alice, bob = pair
    files, away = alice.home / "sessions.d", alice.home / "elsewhere"
    files.rename(away)
    until(lambda: report(alice)["rejected"])
    alice.process.send_signal(signal.SIGHUP)
    until(lambda: len(events(alice, "config.rejected")) == 1)
    assert "sessions.d is not there" in str(report(alice)["rejected"])
    alice.drop("chat", "a.txt", "still")
    until(lambda: bob.texts("chat") == ["still"])
    assert "sessions.d is not there" in alice.command("status", check=False).stdout
    away.rename(files)
    until(lambda: report(alice)["rejected"] == [])
    assert not events(alice, "session.removed")


def test_an_empty_folder_says_that_no_session_is_served_any_more(pair):
    alice, _ = pair
    (alice.home / "sessions.d" / "chat.toml").unlink()
    until(lambda: report(alice)["sessions"] == {})
    (alice.home / "sessions.d").rmdir()
    alice.process.send_signal(signal.SIGHUP)
    alice.add("other", "--create")
    until(lambda: "other" in report(alice)["sessions"])
    assert not events(alice, "config.rejected")


def test_a_proxy_that_is_mended_in_the_file_is_used_without_a_restart(pair):
    alice, bob = pair
    alice.configure(extra='proxy = "http://127.0.0.1:1"')
    until(lambda: alice.view("chat")["state"] == "backoff")
    alice.drop("chat", "a.txt", "through no proxy")
    alice.configure()
    until(lambda: bob.texts("chat") == ["through no proxy"])
    assert report(alice)["pid"] == alice.process.pid
    until(lambda: alice.view("chat")["state"] == "active")


@pytest.mark.parametrize("away", ["a file in its place", "moved"])
def test_a_session_whose_files_cannot_be_listed_goes_on_and_status_lists_it(pair, away):
    alice, bob = pair
    files = alice.home / "sessions.d"
    files.rename(alice.home / "away")
    if away != "moved":
        files.touch(0o600)
    until(lambda: report(alice)["rejected"])
    (alice.folder("chat") / "outbox" / "note~").write_text("not done yet")
    alice.drop("chat", "a.txt", "still")
    until(lambda: bob.texts("chat") == ["still"])
    ran = alice.command("status", check=False)
    seen = json.loads(ran.stdout)
    assert [(one["session"], one["state"]) for one in seen["sessions"]] == [("chat", "active")]
    assert seen["unserved"] == []
    found = json.loads(alice.command("doctor", check=False).stdout)["findings"]
    assert [one for one in found if one["level"] == "bad" and "sessions.d" in one["finding"]]
    assert alice.command("check", check=False).returncode == 0


def test_sessions_whose_files_are_away_at_the_start_are_missed(pair):
    alice, _ = pair
    alice.stop()
    (alice.home / "sessions.d").rename(alice.home / "away")
    alice.start()
    ran = alice.command("status", check=False)
    assert ran.returncode == 1
    assert "sessions.d is not there" in str(json.loads(ran.stdout)["troubles"])
    for command in ("doctor", "check"):
        assert "sessions.d is not there" in alice.command(command, check=False).stderr
    (alice.home / "away").rename(alice.home / "sessions.d")
    until(lambda: "chat" in report(alice)["sessions"], patience=70)
    assert alice.command("status", check=False).returncode == 0
