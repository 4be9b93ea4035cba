"""Power cuts at every call of a cycle; and the same with each protection taken away, which must be caught."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter

import pytest

from nexusd.bridge import sift, witness
from nexusd.bridge.journal import Journal
from nexusd.spool import inbox, line, sending
from nexusd.spool import state as states
from nexusd.timestamps import stamp
from tests.faults.bench import Bench, Server
from tests.faults.disk import copied, recorded

REAL_RECOVER = Journal._recover
THEIRS, OURS = ["one", "two", "three"], ["uno", "dos"]


async def cycle(home, forget, patch):
    """A cycle in and out, written down."""
    bench = Bench(home)
    bench.start()
    bench.server.say("alice", "earlier")
    bench.server.say("bob", "zero")
    await bench.until_done()
    for text in THEIRS:
        bench.server.say("bob", text)
    for text in OURS:
        bench.drop(f"{text}.txt", text)
    with contextlib.ExitStack() as stack:
        patch(stack)
        recorder = stack.enter_context(recorded(bench.root, bench.server, forget))
        for _ in range(6):
            assert not await bench.turn()
        bench.server.say("bob", "late")
        await bench.until_done()
    bench.close()
    return bench, recorder


async def after_a_crash(bench, recorder, home, cut, chance, patch):
    """What is lost or doubled once the daemon has come up on the image and done its work; nothing if all is well."""
    copied(bench.home, home)
    shown, truth, last = recorder.image(home / "nexus", cut, chance)
    server = Server()
    server.shown, server.truth, server.last = list(shown), list(truth), last
    again = Bench(home, server)
    with contextlib.ExitStack() as stack:
        patch(stack)
        again.start()
        await again.until_done()
        again.server.say("bob", "after")
        await again.until_done()
    again.close()
    theirs = [text for who, text in server.truth if who == "bob"]
    heard = Counter(again.heard())
    wrong = [f"lost in: {text}" for text in theirs if not heard[text]]
    wrong += [f"doubled in: {text}" for text, n in heard.items() if n > 1]
    lines = again.lines()
    if [entry["seq"] for entry in lines] != list(range(1, len(lines) + 1)):
        wrong.append("a hole in the numbers")
    said = Counter(server.said("alice"))
    wrong += [f"lost out: {text}" for text in OURS if not said[text]]
    wrong += [f"doubled out: {text}" for text, n in said.items() if n > 1]
    if again.places() != {f"{text}.txt": ["sent"] for text in OURS}:
        wrong.append(f"places: {again.places()}")
    for text in OURS:
        sent = again.folder / "sent" / f"{text}.txt"
        if sent.exists() and sent.read_text() != text:
            wrong.append(f"changed: {text}")
        try:
            told = json.loads((again.folder / "sent" / f"{text}.txt.receipt.json").read_bytes())
            if (told["sha256"], told["possibleDuplicate"]) != (sending.digest(text.encode()), False):
                wrong.append(f"a false receipt: {told}")
        except (OSError, ValueError) as fault:
            wrong.append(f"no receipt: {fault}")
    return wrong


def nothing(_):
    """No patch."""


def crashes(tmp_path, *, forget=frozenset(), before=nothing, after=nothing, images=1, seed=0):
    """Every cut, the least image and some random ones; how many, and what went wrong in them."""
    chance = random.Random(seed)
    bench, recorder = asyncio.run(cycle(tmp_path / "home", forget, before))
    tried, wrong = 0, []
    for cut in range(len(recorder.ops) + 1):
        for n in range(images + 1):
            home = tmp_path / f"{cut}-{n}"
            tried += 1
            try:
                found = asyncio.run(after_a_crash(bench, recorder, home, cut, chance if n else None, after))
            except AssertionError as fault:
                found = [str(fault)]
            except Exception as fault:
                found = [f"unreadable: {type(fault).__name__}: {fault}"]
            wrong += [(cut, n, what) for what in found]
    return tried, wrong


def test_case_10_and_24_no_power_cut_loses_or_doubles_anything(tmp_path):
    tried, wrong = crashes(tmp_path, images=3)
    print(f"{tried} images of a disk that lost what was not synced: {len(wrong)} lost or doubled")
    assert wrong == []
    assert tried > 250


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_case_10_and_24_no_power_cut_loses_or_doubles_anything_in_thousands_of_images(tmp_path, tally):
    tried, wrong = crashes(tmp_path, images=30, seed=5)
    print(f"{tried} images of a disk that lost what was not synced: {len(wrong)} lost or doubled")
    count = Counter(what.split()[0] for _, _, what in wrong)
    tally("power cut, simulated disk", tried, lost=count["lost"], doubled=count["doubled"])
    assert wrong == []


# ---- each protection taken away


def patched(where, name, what):
    """A patch for one stack."""

    def patch(stack):
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        monkeypatch.setattr(where, name, what)

    return patch


def cursor_first(self, entries, change):
    """`Journal.commit_now`, the wrong way round."""
    at = stamp()
    seq = self.state.seq
    lines = [
        line.render(entry, seq=seq + n, session=self._folder.name, received_at=at) for n, entry in enumerate(entries, 1)
    ]
    self.state.seq = seq + len(lines)
    change(self.state)
    states.save(self._folder, self.state)
    if lines:
        self.inbox.append(lines, at)


def not_recovered(self):
    """`Journal._recover`, with the state's word above the inbox's."""
    self.inbox.recover(self.state.seq, stamp())


def not_written_down(self):
    """`Journal._recover`, keeping to itself what it found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "save", lambda *_: None)
        REAL_RECOVER(self)


def no_repair(self, fd, size, stamp):
    """`Inbox._whole`, cutting nothing."""
    return size


CONTROLS = {
    "fdatasync": {"forget": frozenset({"fdatasync"})},
    "fsync of files": {"forget": frozenset({"fsync"})},
    "fsync of folders": {"forget": frozenset({"folder"})},
    "append before cursor": {"before": patched(Journal, "commit_now", cursor_first)},
    "intent": {"before": patched(sending.Sending, "note", lambda *_: None)},
    "witness": {"after": patched(witness, "find", lambda *_: None)},
    "tail repair": {"after": patched(inbox.Inbox, "_whole", no_repair)},
    "inbox above state": {"after": patched(Journal, "_recover", not_recovered)},
}


@pytest.mark.parametrize("protection", CONTROLS)
def test_without_a_protection_power_cuts_and_kills_lose_or_double(tmp_path, protection):
    tried, wrong = crashes(tmp_path, **CONTROLS[protection])
    kinds = Counter(what.partition(":")[0] for _, _, what in wrong)
    print(f"without {protection}: {len({(c, n) for c, n, _ in wrong})} of {tried} images go wrong: {dict(kinds)}")
    assert wrong


def test_without_dedupe_a_restart_of_the_server_doubles():
    """`sift` asked to read anew, with an inbox that it does not know."""

    async def main(names):
        server = Server()
        messages = [server.say("bob", text) for text in THEIRS]
        found = await server.poll("s" * 48, "alice")
        known = sift.Known(None, "", lambda: names(found), "alice", True, True)
        return len(sift.sift(found, known, reread=True).entries), len(messages)

    assert asyncio.run(main(lambda found: {sift.identity(m) for m in found.messages})) == (0, 3)
    assert asyncio.run(main(lambda _: frozenset())) == (3, 3)
