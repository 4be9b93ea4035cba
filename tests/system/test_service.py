"""The daemon as a service: under its unit's restrictions, and while its configuration changes under it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.world import NEXUSD, until

CONFINED = Path(__file__).parents[1] / "service" / "confined.py"
NODE = """\
const fs = require("fs");
const lines = fs.readFileSync(0, "utf8").trim().split("\\n").map(JSON.parse);
let sum = 0;
for (let i = 0; i < 3e6; i++) sum = (sum * 31 + i) % 1000003;  // long enough for the compiler to take notice
fs.appendFileSync(process.env.HOME_OF_TEST + "/heard", lines.map(line => line.text + "\\n").join(""));
"""


def _can_be_confined():
    """Whether this machine lets us do what systemd does."""
    if os.geteuid() != 0 or shutil.which("systemd-analyze") is None:
        return False
    ran = subprocess.run(
        [sys.executable, CONFINED, UNIT, str(CONFINED.parent), "/bin/true"], capture_output=True, check=False
    )
    return ran.returncode == 0


UNIT = Path(__file__).parents[2] / "systemd" / "nexusd@.service"
confinable = pytest.mark.skipif(
    not _can_be_confined(), reason="NOT TESTED: the unit's restrictions need root, mount namespaces and libseccomp"
)


def confined(daemon, *words):
    """What to put before a command so that it runs under the printed unit's restrictions."""
    unit = daemon.home / "nexusd@alice.service"
    unit.write_text(subprocess.run([*NEXUSD, "unit"], capture_output=True, text=True, check=True).stdout)
    return (sys.executable, str(CONFINED), str(unit), str(daemon.home), *words)


@confinable
def test_all_works_under_the_units_restrictions_and_a_node_hook_too(relay, daemons):
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url)
    bob.add("chat", "--code", alice.add("chat", "--create", "--ttl", "60")["link"])
    node = shutil.which("node")
    if node:
        (bob.home / "hook.js").write_text(NODE)
        bob.configure(extra=f'on_message = ["{node}", "{bob.home}/hook.js"]\nroot = "nexus"')
    alice.start(prefix=confined(alice))
    bob.start(prefix=confined(bob), environment={"HOME_OF_TEST": str(bob.home)})
    status = Path(f"/proc/{bob.process.pid}/status").read_text()
    for fact in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"):
        assert fact in status
    for n in range(3):
        alice.drop("chat", f"{n}.txt", f"message {n}")
    until(lambda: bob.texts("chat") == ["message 0", "message 1", "message 2"])
    assert alice.receipt("chat", "0.txt")["confirmed"] == "answer"
    until(lambda: [e for e in alice.events() if e["event"] == "session.renewed"])
    bob.add("more", "--create")
    until((bob.folder("more") / "outbox").is_dir)  # it watches and makes folders
    if node:
        heard = bob.home / "heard"
        until(
            lambda: heard.exists() and heard.read_text() == "message 0\nmessage 1\nmessage 2\n", "the hook did not run"
        )
    writing = os.open(alice.folder("chat") / "outbox" / "slow.txt", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(writing, b"half")
    time.sleep(0.5)
    assert alice.places("chat")["slow.txt"] == ["outbox"]  # a read lease tells that its writer is at work
    os.write(writing, b" and whole")
    os.close(writing)
    until(lambda: bob.texts("chat")[-1] == "half and whole")
    assert [daemon.stop() for daemon in (alice, bob)] == [0, 0]
    for daemon in (alice, bob):
        assert not [e for e in daemon.events() if e["level"] == "error"]
    if not node:
        pytest.skip("NOT TESTED: the hook in Node: there is no node here")


@confinable
def test_the_daemon_itself_needs_no_writable_and_executable_memory(relay, daemons):
    alice, bob = daemons("alice", relay.url), daemons("bob", relay.url)
    bob.add("chat", "--code", alice.add("chat", "--create", "--ttl", "600")["link"])
    bob.configure(extra=f'on_message = ["/bin/sh", "-c", "cat > {bob.home}/heard"]')
    alice.start(prefix=confined(alice, "--mdwe"))
    bob.start(prefix=confined(bob, "--mdwe"))
    alice.drop("chat", "a.txt", "hello")
    until(lambda: bob.texts("chat") == ["hello"])
    until(lambda: (bob.home / "heard").exists() and b"hello" in (bob.home / "heard").read_bytes())
    assert alice.stop() == 0


@confinable
def test_the_restrictions_are_in_force(relay, daemons):
    alice = daemons("alice", relay.url)
    tries = """\
import mmap, os, socket, sys
def tried(act):
    try:
        act()
    except OSError as fault:
        return fault.strerror
    return "done"
print(tried(lambda: open("/etc/nexusd-test", "w")), tried(lambda: open("/home/x", "w")),
      tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)), tried(lambda: os.nice(-1)),
      tried(lambda: os.chroot("/")), tried(lambda: mmap.mmap(-1, 4096, prot=7)), os.listdir("/root") == [], sep="; ")
"""
    ran = subprocess.run([*confined(alice), sys.executable, "-c", tries], capture_output=True, text=True, check=False)
    no, fixed = "Operation not permitted", "Read-only file system"
    told = ran.stdout.strip().split("; ")
    assert told[:5] == [fixed, fixed, no, no, no], ran.stderr
    assert told[5] == "done"  # as Node needs it
    ran = subprocess.run(
        [*confined(alice, "--mdwe"), sys.executable, "-c", tries], capture_output=True, text=True, check=False
    )
    assert ran.stdout.split("; ")[5] == "Permission denied"


# ---- a configuration that changes


def test_what_did_not_change_is_not_disturbed(pair):
    alice, bob = pair
    until(lambda: bob.view("chat")["state"] == "active")
    for n in range(20):
        alice.drop("chat", f"{n:02}.txt", f"{n}")
        bob.configure(extra=f'poll_interval = "{200 + n}ms"')
    until(lambda: len(bob.texts("chat")) == 20)
    assert bob.texts("chat") == [str(n) for n in range(20)]
    assert not [e for e in bob.events() if e["event"] == "session.removed"]
    assert bob.view("chat")["state"] == "active"


def test_case_153_a_broken_session_file_disturbs_no_other_session(pair):
    alice, bob = pair
    half = bob.home / "sessions.d" / "half.toml"
    half.touch(0o600)
    half.write_text('id = "0123456789')
    until(lambda: [e for e in bob.events() if e["event"] == "config.reloaded"])
    alice.drop("chat", "a.txt", "still there?")
    until(lambda: bob.texts("chat") == ["still there?"])
    half.unlink()
    until(lambda: json.loads(bob.command("status", check=False).stdout)["ok"])


def test_500_broken_reloads_leave_the_old_configuration_in_force(pair):
    alice, bob = pair
    good = bob.config.read_text()
    report = bob.root / "daemon.json"
    faults = ["poll_interval = {n}x", "= {n}", "unknown_{n} = 1", "[sessions.x{n}", 'settle = "-{n}"', "root = {n}"]
    began = time.monotonic()
    for n in range(500):
        seen = len(bob.events())
        bob.config.write_text(good + faults[n % len(faults)].format(n=n) + "\n")
        bob.process.send_signal(signal.SIGHUP)
        until(lambda seen=seen: [e for e in bob.events()[seen:] if e["event"] == "config.rejected"], f"reload {n}")
        if n % 50 == 49:
            alice.drop("chat", f"{n}.txt", f"after {n + 1}")
            until(lambda n=n: bob.texts("chat") and bob.texts("chat")[-1] == f"after {n + 1}")
            until(lambda: json.loads(report.read_text())["rejected"], "daemon.json does not say so")
    assert bob.process.poll() is None
    rejected = [e for e in bob.events() if e["event"] == "config.rejected"]
    print(
        f"\n500 broken reloads in {time.monotonic() - began:.0f} s, {len(rejected)} times said; 10 of 10 messages came"
    )
    assert len(bob.texts("chat")) == 10
    assert not [e for e in bob.events() if e["event"] in ("config.reloaded", "session.removed")]
    bob.config.write_text(good.replace('"200ms"', '"250ms"', 1))
    until(lambda: [e for e in bob.events() if e["event"] == "config.reloaded"])
