"""Folders that a hand moves, removes or puts back while no daemon runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.system.test_reload import report
from tests.world import NEXUS, until


@pytest.mark.parametrize("how", ["swapped", "moved", "copied"])
def test_what_waits_in_a_folder_goes_to_nobody_when_it_is_put_in_another_sessions_place(relay, daemons, how):
    """`other` was added later than all that waits: its time alone does not say for whom that is."""
    alice = daemons("alice", relay.url)
    alice.add("chat", "--create")
    alice.add("other", "--create")
    alice.start()
    until(lambda: all(alice.view(name)["state"] == "active" for name in ("chat", "other")))
    alice.stop()
    alice.drop("chat", "a.txt", "for chat alone")
    chat, other, aside = alice.folder("chat"), alice.folder("other"), alice.root / "aside"
    other.rename(aside)
    shutil.copytree(chat, other) if how == "copied" else chat.rename(other)
    if how == "swapped":
        aside.rename(chat)
    else:
        shutil.rmtree(aside)
    alice.start()
    until(lambda: alice.view("other")["state"] == "active")
    assert alice.error("other", "a.txt")["error"] == "session_changed"
    sent = {record.parent.name: record for record in alice.client_dir.glob("sessions/*/agent")}
    texts = [m.get("text") for session in sent for m in relay.messages(session, "alice")]
    assert texts.count("for chat alone") == (1 if how == "copied" and "a.txt" in os.listdir(chat / "sent") else 0)
    assert "bounced" in alice.notices("other")


@pytest.mark.parametrize("what", ["folder", "state and inbox"])
def test_a_folder_that_is_removed_while_no_daemon_runs_goes_on_with_the_next_line_and_says_so(pair, what):
    alice, bob = pair
    for n in range(3):
        bob.drop("chat", f"{n}.txt", f"text {n}")
    until(lambda: len(alice.texts("chat")) == 3)
    last = alice.inbox("chat")[-1]["seq"]
    alice.stop()
    assert report(alice)["sessions"]["chat"]["lastSeq"] == last
    shutil.rmtree(alice.folder("chat") if what == "folder" else alice.folder("chat") / ".nexusd")
    if what != "folder":
        (alice.folder("chat") / "inbox.jsonl").unlink()
    alice.start()
    lines = until(lambda: alice.folder("chat").joinpath("inbox.jsonl").exists() and alice.inbox("chat"))
    assert (lines[0]["seq"], lines[0]["notice"]) == (last + 1, "gap")


def test_a_session_that_was_left_by_hand_can_still_be_read_and_nothing_of_it_goes_elsewhere(pair):
    bob, alice = pair  # who made a session cannot leave it
    bob.drop("chat", "a.txt", "before")
    until(lambda: alice.texts("chat") == ["before"])

    def nexus(*words):
        environ = {**os.environ, "NEXUS_CLIENT_DIR": str(alice.client_dir), "NEXUSD_CONFIG": str(alice.config)}
        environ["NEXUS_URL"] = "http://127.0.0.1:1"
        return subprocess.run([*NEXUS, *words], env=environ, check=False, capture_output=True, text=True)

    assert nexus("leave", "chat").returncode == 0
    until(lambda: alice.view("chat")["state"] == "left")
    assert [json.loads(line).get("text") for line in nexus("read", "chat").stdout.splitlines()][-2] == "before"
    sent = nexus("send", "chat", "into nowhere")
    assert sent.returncode == 1
    assert "left" in sent.stdout
    assert "(session binding)" in nexus("status", "chat").stderr
