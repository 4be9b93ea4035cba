"""What is dropped is exchanged for links, pipes and folders between the look and the reading, by another process."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys

import pytest

from nexusd.errors import NexusError, Refusal
from nexusd.spool import atomic, outbox, sending
from nexusd.spool.layout import SessionFolder
from nexusd.spool.outbox import Outbox
from nexusd.spool.sending import Sending
from tests.faults.attacker import NAMES, WHOLE

SECRET = b"the private key of somebody else"
LIMIT = 1 << 20


@pytest.fixture
def folder(tmp_path):
    found = SessionFolder(str(tmp_path / "nexus"), "chat")
    found.make()
    return found


@pytest.fixture
def secrets(tmp_path):
    place = tmp_path / "secrets"
    place.mkdir()
    for name in NAMES:
        (place / name).write_bytes(SECRET)
    return place


def raced(folder, secrets, races, seed, *only):
    """Look, ask, claim and read so many times; the bodies that would have been sent, and how often what happened."""
    attack = [sys.executable, "-m", "tests.faults.attacker", folder.outbox, str(secrets), str(seed), *only]
    bodies, refused, busy, gone = [], 0, 0, 0
    box, claims = Outbox(folder.outbox), Sending(folder)
    with subprocess.Popen(attack, stdout=subprocess.PIPE) as attacker:
        try:
            assert attacker.stdout.readline() == b"ready\n"
            tried = 0
            while tried < races:
                try:
                    look = box.look(0)
                except (OSError, NexusError):
                    gone += 1
                    continue
                tried += len(look.refused) + len(look.ready)
                refused += len(look.refused)
                for name, _ in look.refused:
                    with contextlib.suppress(OSError, NexusError), atomic.held_folder(folder.outbox) as held:
                        sending.settle(f"{held}/{name}", folder.failed, name, {}, sent=False)
                for drop in look.ready:
                    try:
                        if not box.is_done(drop):
                            busy += 1
                            continue
                        claimed = claims.claim(drop.name)
                        body = claims.read(claimed, LIMIT) if claimed else None
                    except Refusal:
                        refused += 1
                        continue
                    except (OSError, NexusError):
                        gone += 1
                        continue
                    if body is None:
                        busy += 1
                    else:
                        bodies.append(body)
        finally:
            attacker.kill()
            attacker.stdout.close()
    return bodies, refused, busy, gone


def leaks(bodies):
    return sum(SECRET in body for body in bodies)


def halves(bodies):
    return sum(body != SECRET and (len(body) != WHOLE or body[:1] + body[-1:] != b"<>") for body in bodies)


def test_case_61_69_to_72_and_77_in_ten_thousand_races_no_byte_from_outside_and_no_half_file(folder, secrets):
    bodies, refused, busy, gone = raced(folder, secrets, 10_000, 1)
    print(f"races: {len(bodies)} read, {refused} refused, {busy} still written to, {gone} gone or not ours")
    assert leaks(bodies) == 0
    assert halves(bodies) == 0
    assert min(len(bodies), refused, busy, gone) > 20, (len(bodies), refused, busy, gone)
    for name in NAMES:  # what is behind a link was never moved or written
        assert (secrets / name).read_bytes() == SECRET


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_case_61_69_to_72_and_77_in_a_hundred_thousand_races_no_byte_from_outside(folder, secrets, tally):
    bodies, *_ = raced(folder, secrets, 100_000, 2)
    assert (leaks(bodies), halves(bodies)) == (0, 0)
    tally("race for a dropped file", 100_000)


# ---- the same with a protection removed: caught


@pytest.mark.parametrize("removed", ["O_NOFOLLOW", "hard links", "lease", "held folder"])
def test_without_a_protection_the_races_are_lost(folder, secrets, monkeypatch, removed):
    if removed == "O_NOFOLLOW":
        monkeypatch.setattr(outbox.os, "O_NOFOLLOW", 0)
        monkeypatch.setattr(outbox, "refuse", lambda *_, **__: None)
    elif removed == "hard links":
        whole = outbox.refuse
        monkeypatch.setattr(outbox, "refuse", lambda name, status, **_: whole(name, status))  # patient, as in a look
    elif removed == "lease":
        monkeypatch.setattr(outbox, "lease", lambda _: True)
    elif removed == "held folder":

        @contextlib.contextmanager
        def by_name(path):
            yield path

        monkeypatch.setattr(atomic, "held_folder", by_name)
    found = 0
    for seed in range(6):
        bodies, *_ = raced(folder, secrets, 3_000, seed, *("0" if removed == "lease" else ""))
        found = halves(bodies) if removed == "lease" else leaks(bodies)
        missing = any(not (secrets / name).exists() for name in NAMES)  # moved away through the link
        if found or missing:
            break
        shutil.rmtree(folder.sending)
        folder.make()
    print(f"without {removed}: {found} bodies that must not be sent{', a file outside moved' if missing else ''}")
    assert found or missing


def test_case_86_folders_exchanged_for_links_are_refused_and_nothing_behind_them_is_touched(folder, secrets, tmp_path):
    claims = Sending(folder)
    for name in ("sent", "failed", "outbox"):
        shutil.rmtree(f"{folder.path}/{name}")
        (tmp_path / "nexus" / "chat" / name).symlink_to(secrets)
    with pytest.raises(NexusError, match="not a folder"):
        claims.claim("a.txt")
    with pytest.raises(NexusError, match="not a folder"):
        Outbox(folder.outbox).look(0)
    own = tmp_path / "own"
    own.write_text("mine")
    with pytest.raises(NexusError, match="not a folder"):
        sending.settle(str(own), folder.sent, "a.txt", {}, sent=True)
    assert sorted(p.name for p in secrets.iterdir()) == sorted(NAMES)
    assert own.exists()


def test_case_75_files_dropped_while_a_long_scan_goes_on_keep_their_order(folder):
    """A scan of many files is no snapshot: it can see the second of two new files and not the first."""
    dropper = (
        "import os, sys\n"
        "for n in range(6000):\n"
        "    aside = f'{sys.argv[1]}/.{n}.tmp'\n"
        "    with open(aside, 'w') as file: file.write('x')\n"
        "    os.utime(aside, ns=(10**18 + n, 10**18 + n))\n"
        "    os.rename(aside, f'{sys.argv[1]}/{n:05}' + 'x' * (n % 90))\n"
    )
    box, looks, ready = Outbox(folder.outbox), 0, []
    with subprocess.Popen([sys.executable, "-c", dropper, folder.outbox]):
        while len(ready) < 6_000:
            ready = [int(drop.name[:5]) for drop in box.look(0).ready]
            looks += 1
            assert ready == list(range(len(ready))), "a later one without an earlier one"
    assert looks > 10
