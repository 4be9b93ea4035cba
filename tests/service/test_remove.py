"""nexusd remove, with real daemons."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.world import NEXUS, PATIENCE, until


def removed(daemon, *words):
    ran = daemon.command("remove", *words, check=False)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran, json.loads(ran.stdout)


def agents(relay, session):
    return [agent["agentId"] for agent in relay.ask("GET", f"/v1/sessions/{session}").json()["agents"]]


def test_a_removed_session_is_let_go_within_a_second_or_so_and_its_folder_stays(pair):
    alice, _ = pair
    ran, said = removed(alice, "chat")
    assert (ran.returncode, said["removed"], said["left"]) == (0, True, False)
    until(lambda: [e for e in alice.events() if e["event"] == "session.removed"])
    assert alice.folder("chat").is_dir()
    assert not (alice.home / "sessions.d" / "chat.toml").exists()
    assert list(alice.client_dir.glob("sessions/*/key"))  # still a member
    assert alice.view("chat")["state"] == "stopped"


def test_leaving_waits_for_the_daemon_and_forgets_the_secrets(pair, relay):
    alice, bob = pair
    session = next(bob.client_dir.joinpath("sessions").iterdir()).name
    until(lambda: bob.view("chat")["state"] == "active")
    ran, said = removed(bob, "chat", "--leave")
    assert (ran.returncode, said["removed"], said["left"]) == (0, True, True), ran.stderr
    assert agents(relay, session) == ["alice"]
    assert not list(bob.client_dir.glob("sessions/*"))
    assert bob.folder("chat").is_dir()
    assert "evicted" not in bob.notices("chat")
    assert session not in ran.stdout + ran.stderr
    assert alice.process.poll() is None


def test_leaving_works_without_a_daemon_too(pair, relay):
    _, bob = pair
    session = next(bob.client_dir.joinpath("sessions").iterdir()).name
    bob.stop()
    assert removed(bob, "chat", "--leave")[1]["left"] is True
    assert agents(relay, session) == ["alice"]


def test_where_the_server_does_not_let_go_the_secrets_stay_for_another_try(pair):
    alice, _ = pair  # she made the session, and a creator cannot leave
    ran, said = removed(alice, "chat", "--leave")
    assert (ran.returncode, said["removed"], said["left"]) == (1, True, False)
    assert said["error"] == "forbidden"
    assert "nexus leave chat" in ran.stderr
    assert list(alice.client_dir.glob("sessions/*/key"))


def test_a_server_that_is_away_keeps_the_secrets_too(pair, relay):
    _, bob = pair
    relay.stop()
    ran, said = removed(bob, "chat", "--leave")
    assert (ran.returncode, said["left"]) == (1, False)
    assert list(bob.client_dir.glob("sessions/*/key"))


@pytest.mark.slow
def test_a_daemon_that_does_not_let_go_is_said(pair):
    _, bob = pair
    until(lambda: bob.view("chat")["state"] == "active")
    bob.process.send_signal(signal.SIGSTOP)
    ran, said = removed(bob, "chat", "--leave")
    assert (ran.returncode, said["error"]) == (1, "still_served")
    assert "nexus leave chat" in ran.stderr
    assert list(bob.client_dir.glob("sessions/*/key"))


def test_a_persons_own_file_is_not_touched(pair):
    alice, _ = pair
    dropin = alice.home / "sessions.d" / "chat.toml"
    alice.configure(sessions=f"\n# mine\n[sessions.chat]\n{dropin.read_text()}\n[sessions.chat.extra]\n")
    dropin.unlink()
    alice.configure(sessions=f"\n# mine\n[sessions.'hand']\n{alice_id(alice)}poll_interval = \"10s\"\n")
    before = alice.config.read_text()
    ran, said = removed(alice, "hand")
    assert (ran.returncode, said["error"]) == (1, "in_config")
    first = before.splitlines().index("[sessions.'hand']") + 1
    assert f"delete lines {first} to {first + 2}, [sessions.hand]" in said["message"]
    assert alice.config.read_text() == before


def alice_id(daemon):
    return f'id = "{next(daemon.client_dir.joinpath("sessions").iterdir()).name}"\n'


def test_a_broken_file_of_a_session_can_be_removed(pair):
    alice, _ = pair
    dropin = alice.home / "sessions.d" / "chat.toml"
    dropin.write_text("id = ")
    ran, said = removed(alice, "chat", "--leave")
    assert (ran.returncode, said["error"]) == (1, "not_served")
    assert removed(alice, "chat")[0].returncode == 0
    assert not dropin.exists()


def test_an_unknown_name_is_answered_with_the_nearest(pair):
    alice, _ = pair
    ran, said = removed(alice, "chatt")
    assert (ran.returncode, said["error"]) == (1, "unknown_session")
    assert "did you mean chat?" in ran.stderr
    assert removed(alice, "../chat")[0].returncode == 1
    assert (alice.home / "sessions.d" / "chat.toml").exists()


def test_what_is_not_sent_yet_stays_where_it_is(pair, relay):
    _, bob = pair
    relay.stop()
    bob.drop("chat", "a.txt", "too late")
    until(lambda: bob.places("chat") == {"a.txt": ["sending"]} or bob.view("chat")["lastError"])
    assert removed(bob, "chat")[0].returncode == 0
    until(lambda: [e for e in bob.events() if e["event"] == "session.removed"])
    assert len(bob.places("chat")["a.txt"]) == 1


def test_files_that_wait_are_named_when_a_session_is_removed(pair, relay):
    alice, _ = pair
    relay.stop()
    alice.drop("chat", "late.txt", "not sent yet")
    until(lambda: alice.view("chat")["unsent"] == 1)
    ran, said = removed(alice, "chat")
    assert said["unsent"] == 1
    assert "files in it that are not sent yet: 1" in ran.stderr


def test_the_way_back_that_is_told_after_a_leave_by_hand_works(pair, relay):
    alice, bob = pair
    environment = {**os.environ, "NEXUS_CLIENT_DIR": str(bob.client_dir), "NEXUSD_CONFIG": str(bob.config)}
    said = subprocess.run(
        [*NEXUS, "leave", "chat"], env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "left" in said.stderr + said.stdout
    told = until(lambda: next((one["text"] for one in bob.inbox("chat") if one.get("notice") == "left"), None))
    assert "nexusd remove chat, then nexusd add chat with a new code" in told
    ran, _ = removed(bob, "chat")
    assert "you are not in it" in ran.stderr
    assert "still in it" not in ran.stderr
    identity = next(path.name for path in (alice.client_dir / "sessions").iterdir())
    link = relay.ask("PUT", "/v1/pair", json={"sessionId": identity}).json()["url"]
    bob.add("chat", "--code", link)
    alice.drop("chat", "again.txt", "welcome back")
    until(lambda: bob.texts("chat")[-1:] == ["welcome back"])
