"""Files in, files out, with the real daemon and the real relay as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess

from tests.faults.patched import prefix
from tests.world import NEXUS, checked_seq, until


def test_a_file_becomes_a_line_in_the_other_inbox_and_a_receipt_in_ours(pair):
    alice, bob = pair
    alice.drop("chat", "a.txt", "hello\n")
    receipt = alice.receipt("chat", "a.txt")
    line = until(lambda: bob.inbox("chat"))[0]
    assert (line["kind"], line["seq"], line["session"], line["text"]) == ("message", 1, "chat", "hello")
    assert (line["id"], line["cursor"], line["verified"]) == (receipt["id"], receipt["cursor"], True)
    assert receipt["confirmed"] == "answer"
    assert receipt["possibleDuplicate"] is False
    assert (alice.folder("chat") / "sent" / "a.txt").read_text() == "hello\n"


def test_both_directions_and_all_three_forms_of_a_file(pair):
    alice, bob = pair
    alice.drop("chat", "1.json", '{"n": 1}')
    bob.drop("chat", "2.msg.json", '{"text": "both", "json": [1, 2]}')
    assert until(lambda: bob.inbox("chat"))[0]["json"] == {"n": 1}
    line = until(lambda: alice.inbox("chat"))[0]
    assert (line["text"], line["json"]) == ("both", [1, 2])


def test_our_own_messages_are_left_out_of_our_inbox(pair):
    alice, bob = pair
    alice.drop("chat", "a.txt", "from alice")
    until(lambda: bob.texts("chat") == ["from alice"])
    bob.drop("chat", "b.txt", "from bob")
    until(lambda: alice.texts("chat"))
    assert alice.texts("chat") == ["from bob"]


def test_files_go_out_in_the_order_of_their_modification_times(pair):
    alice, bob = pair
    alice.stop()
    for n, name in enumerate(["z", "m", "a", "k"]):
        path = alice.drop("chat", name, name)
        os.utime(path, ns=(n * 10**9, n * 10**9))
    alice.start()
    until(lambda: len(bob.texts("chat")) == 4)
    assert bob.texts("chat") == ["z", "m", "a", "k"]


def test_sigterm_ends_with_0_and_a_restart_goes_on_where_it_was(pair):
    alice, bob = pair
    alice.drop("chat", "a.txt", "one")
    until(lambda: bob.texts("chat") == ["one"])
    assert bob.stop() == 0
    assert bob.view("chat")["state"] == "stopped"
    alice.drop("chat", "b.txt", "two")
    alice.receipt("chat", "b.txt")
    bob.start()
    until(lambda: bob.texts("chat") == ["one", "two"])
    checked_seq(bob.inbox("chat"))


def test_sigint_ends_with_0_too(pair):
    alice, _ = pair
    assert alice.stop(signal.SIGINT) == 0


def test_a_second_daemon_on_a_root_exits_75_and_names_the_first(pair):
    alice, _ = pair
    second = alice.command("run", check=False)
    assert second.returncode == 75
    assert f"pid {alice.process.pid}" in second.stderr
    assert json.loads(second.stdout)["error"] == "root_locked"


def test_case_120_a_session_served_from_another_root_is_blocked_and_taken_over_when_that_daemon_ends(pair):
    alice, bob = pair
    alice.configure(extra='root = "elsewhere"')
    alice.process, first = None, alice.process
    alice.start()
    until(lambda: [e for e in alice.events() if e["event"] == "session.blocked" and "another nexusd" in e["error"]])
    alice.root = alice.home / "elsewhere"
    assert alice.command("status", check=False).returncode == 1
    first.terminate()
    first.wait()
    bob.drop("chat", "a.txt", "are you there?")
    until(lambda: alice.texts("chat") == ["are you there?"], "it was not taken over", patience=60)
    until(lambda: alice.command("status", check=False).returncode == 0)


def test_once_makes_one_pass_and_exits(relay, daemons):
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url)
    bob.add("chat", "--code", alice.add("chat", "--create")["link"])
    assert alice.command("run", "--once").returncode == 0
    alice.drop("chat", "a.txt", "hello")
    assert alice.command("run", "--once").returncode == 0
    assert bob.command("run", "--once").returncode == 0
    assert bob.texts("chat") == ["hello"]
    relay.stop()
    assert bob.command("run", "--once", check=False).returncode == 1


def test_an_expired_session_is_said_once_and_what_is_dropped_is_bounced(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.configure(sessions=f'[sessions.ghost]\nid = "{"f" * 48}"\n')
    alice.start(prefix=prefix("doubt"))
    alice.drop("ghost", "a.txt", "anyone?")
    until(lambda: "expired" in alice.notices("ghost"), patience=60)  # believed on the second answer, 30 s later
    assert alice.error("ghost", "a.txt")["error"] == "expired"
    until(lambda: alice.view("ghost")["state"] == "expired")
    alice.stop()
    alice.start(prefix=prefix("doubt"))
    alice.drop("ghost", "b.txt", "still there?")
    alice.error("ghost", "b.txt")
    assert alice.notices("ghost").count("expired") == 1
    checked_seq(alice.inbox("ghost"))


def test_a_member_that_was_put_out_joins_again(pair, relay):
    alice, bob = pair
    session = bob.client_dir.joinpath("sessions").iterdir().__next__().name
    key = (bob.client_dir / "sessions" / session / "key").read_text().strip()
    relay.ask("DELETE", f"/v1/sessions/{session}/agents/bob", "bob", key)
    until(lambda: "rejoined" in bob.notices("chat"))
    alice.drop("chat", "a.txt", "welcome back")
    until(lambda: bob.texts("chat") == ["welcome back"])
    bob.drop("chat", "b.txt", "thanks")
    assert until(lambda: [m for m in alice.inbox("chat") if m.get("text") == "thanks"])[0]["verified"] is True


def test_who_left_by_hand_is_not_joined_again(pair):
    _, bob = pair
    bob.stop()
    session = next(bob.client_dir.joinpath("sessions").iterdir())
    for name in ("agent", "key"):
        (session / name).unlink()
    bob.start()
    until(lambda: bob.notices("chat") == ["left"])
    until(lambda: bob.view("chat")["state"] == "left")


def test_somebody_elses_agent_id_is_never_used(relay, daemons):
    session = relay.session()
    relay.join(session, "alice")
    alice = daemons("alice", relay.url)
    alice.configure(sessions=f'[sessions.chat]\nid = "{session}"\n')
    alice.start()
    until(lambda: alice.view("chat")["state"] == "stopped")
    assert "agent_id_taken" in alice.view("chat")["lastError"]
    alice.drop("chat", "a.txt", "in whose name?")
    assert relay.ask("GET", f"/v1/sessions/{session}/messages", "alice").json()["messages"] == []


def test_a_server_that_is_not_there_is_waited_for(pair, relay):
    alice, bob = pair
    relay.stop(signal.SIGKILL)
    alice.drop("chat", "a.txt", "patience")
    until(lambda: alice.view("chat")["state"] == "backoff")
    relay.start()
    until(lambda: bob.texts("chat") == ["patience"])
    assert alice.receipt("chat", "a.txt")["possibleDuplicate"] is False
    assert len([e for e in alice.events() if e["event"] == "session.backoff"]) <= 3


def test_what_can_never_be_sent_goes_to_failed_with_what_to_do(pair):
    alice, bob = pair
    outbox = alice.folder("chat") / "outbox"
    alice.drop("chat", "binary.txt", b"\xff\xfe\x00")
    alice.drop("chat", "big.txt", b"x" * 300_000)
    alice.drop("chat", "bad.json", "{")
    alice.drop("chat", "odd.msg.json", '{"txt": "?"}')
    alice.drop("chat", "nothing.txt", "\n")
    (outbox / "link").symlink_to(alice.config)
    (outbox / "folder").mkdir()
    (outbox / "folder" / "inner").write_text("x")
    os.mkfifo(outbox / "pipe")
    alice.drop("chat", "x.receipt.json", "{}")
    alice.drop("chat", b"not-utf8-\xff".decode(errors="surrogateescape"), "odd name, good text")
    wanted = {
        "binary.txt": "not_text",
        "big.txt": "too_large",
        "bad.json": "not_json",
        "odd.msg.json": "bad_envelope",
        "nothing.txt": "empty",
        "link": "link",
        "folder": "folder",
        "pipe": "not_a_file",
        "x.receipt.json": "reserved_name",
    }
    for name, code in wanted.items():
        error = alice.error("chat", name)
        assert (error["error"], bool(error["message"]), bool(error["remedy"])) == (code, True, True)
        until(lambda name=name: os.path.lexists(alice.folder("chat") / "failed" / name))  # the note is there first
    until(lambda: bob.texts("chat") == ["odd name, good text"])
    bounced = [line["file"] for line in alice.inbox("chat") if line.get("notice") == "bounced"]
    assert sorted(bounced) == sorted(wanted)


def test_a_file_with_one_of_our_secrets_is_not_sent(pair):
    alice, _ = pair
    session = next(alice.client_dir.joinpath("sessions").iterdir()).name
    alice.drop("chat", "a.txt", f"come in: {session}")
    assert alice.error("chat", "a.txt")["error"] == "own_secret"


def test_no_secret_is_logged_or_written_below_the_root(pair):
    alice, bob = pair
    alice.drop("chat", "a.txt", "hello")
    until(lambda: bob.texts("chat"))
    session = next(alice.client_dir.joinpath("sessions").iterdir())
    for daemon in pair:
        daemon.stop()
        seen = daemon.texts_everywhere()
        assert "daemon.ready" in seen
        assert session.name not in seen
        for key in daemon.client_dir.glob("sessions/*/key"):
            assert key.read_text().strip() not in seen


def test_folders_are_private(pair):
    alice, _ = pair
    alice.drop("chat", "a.txt", "hello")
    alice.receipt("chat", "a.txt")
    until(lambda: alice.places("chat") == {"a.txt": ["sent"]})
    alice.stop()  # what comes and goes while it runs cannot be looked at
    for path in [alice.folder("chat"), *alice.folder("chat").rglob("*")]:
        if path.name != "a.txt":  # that one is the dropper's
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_session_added_while_the_daemon_runs_is_served(relay, daemons):
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url)
    for daemon in (alice, bob):
        daemon.start()
    bob.add("chat", "--code", "-", stdin=alice.add("chat", "--create")["link"])
    alice.drop("chat", "a.txt", "hello")
    until(lambda: bob.texts("chat") == ["hello"])


def test_a_broken_configuration_names_all_faults_and_exits_78(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.configure(extra='poll_interval = "soon"\nkeep_sent = true\nrot = 1\nsettle = -1\nserver = "ftp://x"')
    ran = alice.command("run", check=False)
    assert ran.returncode == 78
    for key in ("poll_interval", "keep_sent", "rot", "settle", "server"):
        assert f"config.toml: {key}: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_session_of_60_seconds_is_renewed_while_polls_fail(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.add("chat", "--create", "--ttl", "60")
    alice.start()
    until(lambda: [e for e in alice.events() if e["event"] == "session.renewed"])


def test_readiness_is_told_to_systemd(relay, daemons, tmp_path):
    alice = daemons("alice", relay.url)
    alice.add("chat", "--create")
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(30)
        alice.start(environment={"NOTIFY_SOCKET": address})
        assert b"READY=1" in listener.recv(4096)
        alice.stop()
        told = b""
        while b"STOPPING=1" not in told:
            told = listener.recv(4096)


def test_a_file_may_be_dropped_as_soon_as_the_session_was_added(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.add("chat", "--create")
    alice.drop("chat", "early", "before any daemon ran")
    environment = {**os.environ, "NEXUS_CLIENT_DIR": str(alice.client_dir)}
    words = [*NEXUS, "wait", "chat", "--timeout", "0"]
    waited = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (waited.returncode, json.loads(waited.stdout)["error"]) == (124, "timed_out")
    assert "nexusd run" in waited.stderr
    alice.start()
    assert alice.receipt("chat", "early")["id"]


def test_a_session_whose_folders_cannot_be_made_is_added_all_the_same_and_says_so(relay, daemons):
    alice = daemons("alice", relay.url)
    alice.root.write_text("a file in the way")
    ran = alice.command("add", "chat", "--create")
    assert "could not be made" in ran.stderr
    alice.root.unlink()
    alice.start()
    alice.drop("chat", "late", "hello")
    assert alice.receipt("chat", "late")["id"]


def test_a_text_that_the_relay_redacted_is_said_so_in_the_receipt(relay, daemons):
    alice, bob = daemons("alice", relay.url, 'secret_guard = "off"'), daemons("bob", relay.url)
    bob.add("chat", "--code", alice.add("chat", "--create")["link"])
    alice.start()
    bob.start()
    alice.drop("chat", "a.txt", "the key is ghp_" + "a1B2c3D4e5" * 4)
    assert alice.receipt("chat", "a.txt")["redacted"] is True
    until(lambda: bob.texts("chat"))
    assert "[REDACTED" in bob.texts("chat")[0]
