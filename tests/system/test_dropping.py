"""What tools, people and our own commands put into one outbox, with real daemons and a real relay."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from nexusd.spool import dropping
from tests.world import until


def test_case_131_and_132_tools_do_not_fail_and_every_message_arrives_whole_and_once(pair, tmp_path):
    alice, bob = pair
    outbox = alice.folder("chat") / "outbox"
    source = tmp_path / "source"
    for n in range(5):
        aside = outbox / f"reply{n}.md.tmp.{os.getpid()}.{os.urandom(6).hex()}"
        aside.write_text(f"renamed {n}")
        aside.rename(outbox / f"reply{n}.md")
        source.write_text(f"installed {n}")
        subprocess.run(["install", "-m", "640", source, outbox / f"installed{n}"], check=True)
        source.write_text(f"copied {n}")
        shutil.copy(source, outbox / f"copied{n}")
        (outbox / f"edited{n}").write_text(f"EDIT {n}")
        subprocess.run(["sed", "-i", "s/EDIT/edited/", outbox / f"edited{n}"], check=True)
        fd, name = tempfile.mkstemp(dir=outbox)
        os.write(fd, b"made %d" % n)
        os.close(fd)
        os.chmod(name, 0o644)
        os.replace(name, outbox / f"made{n}")
    wanted = sorted(f"{how} {n}" for how in ("renamed", "installed", "copied", "edited", "made") for n in range(5))
    until(lambda: len(bob.texts("chat")) >= len(wanted))
    until(lambda: alice.view("chat")["unsent"] == 0)
    assert sorted(bob.texts("chat")) == wanted
    assert os.listdir(alice.folder("chat") / "failed") == []


def test_case_131_an_own_drop_does_not_overtake_an_older_file_that_is_not_taken_yet(relay, daemons):
    alice, bob = daemons("alice", relay.url, 'quiet = "1s"'), daemons("bob", relay.url)
    link = alice.add("chat", "--create", "--ttl", "600")["link"]
    bob.add("chat", "--code", link)
    alice.start()
    bob.start()
    folder = alice.folder("chat")
    plain = folder / "outbox" / "plain.txt"
    plain.write_text("first")
    later = folder / "outbox" / ".later"
    until(lambda: later.write_text("x") and later.stat().st_mtime_ns > plain.stat().st_mtime_ns)
    dropped = dropping.drop(folder, "second")
    assert dropped.settled(30)
    until(lambda: len(bob.texts("chat")) == 2)
    assert bob.texts("chat") == ["first", "second"]


def test_case_131_an_own_drop_waits_for_no_quiet_time(relay, daemons):
    alice = daemons("alice", relay.url, 'quiet = "1h"')
    alice.add("chat", "--create", "--ttl", "600")
    alice.start()
    assert dropping.drop(alice.folder("chat"), "at once").settled(30)
