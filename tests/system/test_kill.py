"""kill -9 at any moment and at each system call: nothing lost or doubled, order kept, every file in one place."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.system.conftest import QUICK, Scene
from tests.world import NEXUSD, PATIENCE, until

# What changes the disk or the network. A kill comes before the call, and so after the one before it: with these, the
# moments behind an open, a close or a read are covered too.
CALLS = {
    "write": "write",
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "rename": "?rename,?renameat,?renameat2",
    "mkdir": "?mkdir,?mkdirat",
    "remove": "?unlink,?unlinkat,?rmdir",
    "truncate": "ftruncate",
    "connect": "connect",
    "send": "sendto,?sendmsg",
    "receive": "recvfrom,?recvmsg",
}


def check_dead(scene, dropped):
    """What must hold on the disk of a daemon that died just now."""
    alice, server = scene.alice, scene.server
    lines = alice.inbox("chat")  # of parts that were put aside too
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    heard = [line["text"] for line in lines if line["kind"] == "message"]
    assert heard == server.said("peter")[: len(heard)]
    places = alice.places("chat")
    assert set(places) == dropped, "a file is nowhere, or one is there that nobody dropped"
    assert all(len(found) == 1 for found in places.values()), places
    said = server.said("alice")
    assert len(said) == len(set(said)), "doubled"


def killed_at_random(scene, rounds, seed):
    chance = random.Random(seed)
    alice, server = scene.alice, scene.server
    dropped, ours, torn = set(), [], 0
    alice.start()
    for round_ in range(rounds):
        for n in range(chance.randrange(6)):
            scene.say(f"peter {round_} {n}" + "x" * chance.choice([0, 0, 2_000, 40_000]))
        count = chance.randrange(4)
        ours += scene.drop(count, first=len(ours))
        dropped |= {f"{n}.txt" for n in range(len(ours))}
        end = time.monotonic() + chance.choice([chance.uniform(0, 0.2), chance.uniform(0.3, 1.0)])
        until(lambda end=end: time.monotonic() > end)
        alice.kill()
        inbox = alice.folder("chat") / "inbox.jsonl"
        torn += inbox.exists() and not inbox.read_bytes().endswith(b"\n")
        check_dead(scene, dropped)
        alice.start(ready=False)
    until(lambda: len(list((alice.folder("chat") / "sent").glob("*.receipt.json"))) == len(ours), patience=120)
    until(lambda: alice.texts("chat") == server.said("peter"), patience=60)
    alice.stop()
    check_dead(scene, dropped)
    assert server.said("alice") == ours
    assert alice.places("chat") == {name: ["sent"] for name in dropped}
    assert not any(alice.receipt("chat", name)["possibleDuplicate"] for name in dropped)
    return len(ours), len(server.said("peter")), torn


def learned(server, daemons):
    """Alice, not running; her server is known to show her own messages."""
    scene = Scene(server, daemons("alice", server.url, QUICK + 'inbox_max_bytes = "500KiB"'))
    key = next(scene.alice.client_dir.glob("sessions/*/key")).read_text().strip()
    server.say(scene.session, "alice", key, "before")
    server.truth.clear()
    assert scene.alice.command("run", "--once").returncode == 0
    return scene


def test_case_01_to_08_fifty_kills_at_random_moments(server, daemons):
    sent, heard, torn = killed_at_random(learned(server, daemons), 50, seed=1)
    print(f"50 kills: {sent} sent, {heard} received, {torn} torn lines met, lost 0, doubled 0")
    assert sent > 40
    assert heard > 80


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_case_01_to_08_a_thousand_kills_at_random_moments(server, daemons, tally):
    sent, heard, torn = killed_at_random(learned(server, daemons), 1_000, seed=2)
    print(f"1,000 kills: {sent} sent, {heard} received, {torn} torn lines met, lost 0, doubled 0")
    tally("kill -9 at a random moment", 1_000)


def needs_strace(folder):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: NO KILL POINT WAS TRIED")
    tried = subprocess.run(["strace", "-f", "-o", folder / "strace", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here ({tried.stderr.decode().strip()}): NO KILL POINT WAS TRIED")


def killed_at(scene, call, number, ours, dropped):
    """One cycle in and out, killed before the call of this number; whether that came. Then cycles until all is done."""
    alice, server = scene.alice, scene.server
    for n in range(2):
        scene.say(f"{call} {number} {n}")
    first = len(ours)
    ours += scene.drop(2, first=first)
    dropped |= {f"{n}.txt" for n in range(first, len(ours))}
    inject = f"inject={CALLS[call]}:signal=SIGKILL:when={number}"
    traced = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS[call]}", "-e", inject]
    command = [*traced, *NEXUSD, "run", "--once", "--config", str(alice.config)]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
    died = ran.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert died or ran.returncode == 0, ran.stderr.decode()[-2000:]
    check_dead(scene, dropped)
    for _ in range(5):
        assert alice.command("run", "--once", check=False).returncode in (0, 1)
        if server.said("alice") == ours and not {"outbox", "sending"} & {
            p for places in alice.places("chat").values() for p in places
        }:
            break
    check_dead(scene, dropped)
    assert server.said("alice") == ours, (call, number)
    assert alice.texts("chat") == server.said("peter"), (call, number)
    assert alice.places("chat") == {name: ["sent"] for name in dropped}, (call, number)
    for name in dropped:
        assert alice.receipt("chat", name)["possibleDuplicate"] is False, (call, number)
    return died


def test_case_01_to_08_killed_at_a_sample_of_the_system_calls(server, daemons, tmp_path):
    needs_strace(tmp_path)
    scene, ours, dropped = learned(server, daemons), [], set()
    points = [
        ("fdatasync", 1),
        ("send", 3),
        ("receive", 3),
        ("truncate", 1),
        ("mkdir", 1),
        ("remove", 1),
        ("remove", 3),
    ]
    points += (
        [("rename", n) for n in (1, 2, 3, 5)] + [("fsync", n) for n in (1, 3, 5, 7)] + [("write", n) for n in (2, 5)]
    )
    died = sum(killed_at(scene, call, number, ours, dropped) for call, number in points)
    assert died >= len(points) - 4, "the kills did not come"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", CALLS)
def test_case_01_to_08_killed_at_each_system_call(server, daemons, tmp_path, call, tally):
    needs_strace(tmp_path)
    scene, ours, dropped = learned(server, daemons), [], set()
    for number in itertools.count(1):
        if not killed_at(scene, call, number, ours, dropped):
            break
    print(f"killed at each of {number - 1} {call}: lost 0, doubled 0")
    assert number > 1
    tally("kill -9 at a system call", number - 1)
