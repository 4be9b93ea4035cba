"""What the operator relies on: retention, rotation, metrics, the watchdog, a reload that disturbs nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess

from tests.world import NEXUS, checked_seq, until


def test_old_sent_files_are_removed_with_their_receipts_and_new_ones_stay(pair):
    alice, _ = pair
    for name in ("old.txt", "new.txt"):
        alice.drop("chat", name, name)
        alice.receipt("chat", name)
    alice.stop()
    sent = alice.folder("chat") / "sent"
    os.utime(sent / "old.txt.receipt.json", (1, 1))
    alice.configure(extra='keep_sent = "1d"')
    alice.start()
    until(lambda: not (sent / "old.txt.receipt.json").exists())
    assert sorted(p.name for p in sent.iterdir()) == ["new.txt", "new.txt.receipt.json"]


def test_failed_files_are_kept_for_ever_by_default(pair):
    alice, _ = pair
    alice.drop("chat", "bad.json", "{")
    alice.error("chat", "bad.json")
    alice.stop()
    failed = alice.folder("chat") / "failed"
    os.utime(failed / "bad.json.error.json", (1, 1))
    alice.start()
    alice.drop("chat", "a.txt", "x")
    alice.receipt("chat", "a.txt")
    assert (failed / "bad.json").exists()


def test_a_large_inbox_is_put_aside_and_numbers_go_on(relay, daemons):
    bob = daemons("bob", relay.url, 'inbox_max_bytes = "4KiB"')
    code = bob.add("chat", "--create")["code"]
    joined = relay.ask("POST", f"/v1/pair/{code}/claim", "alice", json={}).json()
    bob.start()
    for n in range(60):
        relay.say(joined["sessionId"], "alice", joined["sessionKey"], f"{n} {'x' * 200}")
    until(lambda: len(bob.inbox("chat")) == 60)
    checked_seq(bob.inbox("chat"))
    assert len(list(bob.folder("chat").glob("inbox-*.jsonl"))) >= 2


def test_an_inbox_moved_away_or_deleted_is_begun_anew_with_the_next_number(pair):
    alice, bob = pair
    alice.drop("chat", "1", "one")
    until(lambda: bob.texts("chat") == ["one"])
    (bob.folder("chat") / "inbox.jsonl").rename(bob.home / "moved")
    alice.drop("chat", "2", "two")
    state = bob.folder("chat") / ".nexusd" / "state.json"
    until(lambda: json.loads(state.read_text())["seq"] == 2)  # deleted any sooner, the line would be written again
    (bob.folder("chat") / "inbox.jsonl").unlink()
    alice.drop("chat", "3", "three")
    until(lambda: bob.texts("chat") == ["three"])
    assert [line["seq"] for line in bob.inbox("chat")] == [3]
    bob.stop()
    bob.start()
    alice.drop("chat", "4", "four")
    until(lambda: bob.texts("chat") == ["three", "four"])


def test_metrics_count_messages_by_session(relay, daemons, tmp_path):
    metrics = tmp_path / "nexusd.prom"
    alice = daemons("alice", relay.url, f'metrics_file = "{metrics}"')
    alice.add("chat", "--create")
    alice.start()
    until(metrics.exists)
    text = metrics.read_text()
    assert 'nexusd_messages_sent_total{session="chat"} 0.0' in text
    assert 'nexusd_session_state{session="chat",state="' in text
    session = next(alice.client_dir.joinpath("sessions").iterdir()).name
    assert session not in text


def test_the_watchdog_is_fed_while_all_is_well_and_not_when_the_daemon_hangs(relay, daemons, tmp_path):
    alice = daemons("alice", relay.url)
    alice.add("chat", "--create")
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(30)
        alice.start(environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
        fed = 0
        while fed < 3:
            fed += b"WATCHDOG=1" in listener.recv(4096)
        alice.process.send_signal(signal.SIGSTOP)
        listener.settimeout(2.5)  # two and a half times what systemd would wait
        silent = False
        while not silent:
            try:
                listener.recv(4096)
            except TimeoutError:
                silent = True
        alice.process.send_signal(signal.SIGCONT)
        listener.settimeout(30)
        while b"WATCHDOG=1" not in listener.recv(4096):
            pass
    assert alice.stop() == 0


def test_a_reload_disturbs_nothing_that_did_not_change(pair):
    alice, _ = pair
    other = alice.add("other", "--create")
    until((alice.folder("other") / "session.json").exists)
    assert other["agentId"] == "alice"
    began = [e for e in alice.events() if e["event"] == "session.active"]
    alice.configure(extra='keep_sent = "9d"')
    until(lambda: [e for e in alice.events() if e["event"] == "config.reloaded"][1:])
    alice.drop("chat", "a.txt", "still")
    alice.receipt("chat", "a.txt")
    assert len([e for e in alice.events() if e["event"] == "session.active"]) <= len(began) + 1
    assert not [e for e in alice.events() if e["event"] == "session.removed"]


def test_a_broken_configuration_keeps_the_old_one_in_force_and_is_said(pair):
    alice, bob = pair
    alice.configure(extra='poll_interval = "banana"')
    rejected = until(lambda: [e for e in alice.events() if e["event"] == "config.rejected"])[0]
    assert "poll_interval" in str(rejected["faults"])
    alice.drop("chat", "a.txt", "still")
    until(lambda: bob.texts("chat") == ["still"])


def test_a_renewal_by_hand_beside_the_daemon_is_known_to_it(pair):
    alice, _ = pair
    long_before = until(lambda: alice.view("chat")["ttl"] == 600 and alice.view("chat")["expiresAt"])
    environ = {**os.environ, "NEXUS_CLIENT_DIR": str(alice.client_dir), "NEXUSD_CONFIG": str(alice.config)}
    subprocess.run([*NEXUS, "renew", "chat", "--ttl", "120"], env=environ, check=True, capture_output=True)
    until(lambda: alice.view("chat")["ttl"] == 120)
    assert alice.view("chat")["expiresAt"] < long_before
