"""The power goes while the bridge is at work on a real file system: what was acknowledged is there, and all goes on."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from nexusd.spool import sending
from nexusd.spool.dropping import drop
from tests.faults.bench import Bench, Server
from tests.faults.images import disk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROUNDS = 14


class Witnesses:
    """What those outside have seen, each with how far the disk's log had come by then."""

    def __init__(self, made) -> None:
        self._made = made
        self.seen: list[tuple[int, str, object]] = []

    def note(self, kind: str, what: object) -> None:
        self.seen.append((self._made.at, kind, what))

    def by(self, at: int, kind: str) -> list:
        return [what for then, known, what in self.seen if known == kind and then <= at]


class Noted(Server):
    """A server whose every state is noted."""

    def __init__(self, witnesses: Witnesses) -> None:
        super().__init__()
        self.witnesses = witnesses

    def say(self, who, text, **more):
        said = super().say(who, text, **more)
        self.witnesses.note("server", copy.deepcopy((self.shown, self.truth, self.last)))
        return said


def bench_on(place: Path, home: Path, server: Server) -> Bench:
    """The root is on the disk under test, all else beside it."""
    bench = Bench(home, server, 'inbox_max_bytes = "4KiB"')
    bench.root = place / "nexus"
    bench.folder = bench.root / "chat"
    return bench


async def at_work(made, home: Path) -> tuple[Witnesses, int]:
    """Rounds in and out; the witnesses, and where in the log it began."""
    witnesses = Witnesses(made)
    chance = random.Random(3)
    bench = bench_on(made.place, home, Noted(witnesses))
    bench.start()
    bench.server.say("alice", "earlier")
    await bench.until_done()
    began = made.at
    for round_ in range(ROUNDS):
        for n in range(chance.randrange(1, 4)):
            bench.server.say("bob", f"in {round_} {n} " + "x" * chance.choice([0, 300, 5_000]))
        for n in range(chance.randrange(3)):
            dropped = drop(bench.folder, f"out {round_} {n}")
            witnesses.note("dropping", (dropped.name, f"out {round_} {n}"))
            fd = os.open(bench.folder / "outbox", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            witnesses.note("dropped", (dropped.name, f"out {round_} {n}"))
        for _ in range(4):
            assert not await bench.turn()
            witnesses.note("lines", bench.lines())
            for path in (bench.folder / "sent").glob("*.receipt.json"):
                witnesses.note("receipt", (path.name.removesuffix(".receipt.json"), path.read_bytes()))
    await bench.until_done()
    bench.close()
    return witnesses, began


async def after_the_crash(made, home: Path, witnesses: Witnesses, at: int) -> list[str]:
    """What went wrong, once a new life has begun on what is left."""
    server = Server()
    server.shown, server.truth, server.last = copy.deepcopy(witnesses.by(at, "server")[-1])
    bench = bench_on(made.place, home, server)
    bench.start()
    wrong = []
    acknowledged = (witnesses.by(at, "lines") or [[]])[-1]
    if bench.lines()[: len(acknowledged)] != acknowledged:
        wrong.append("an acknowledged line is gone")
    for name, receipt in dict(witnesses.by(at, "receipt")).items():
        if (
            not (bench.folder / "sent" / name).exists()
            or _read(bench.folder / "sent" / f"{name}.receipt.json") != receipt
        ):
            wrong.append("an acknowledged receipt is gone")
    await bench.until_done()
    server.say("bob", "after")
    await bench.until_done()
    bench.close()
    heard, said = Counter(bench.heard()), Counter(server.said("alice"))
    wrong += [f"lost in: {text[:9]}" for text in server.said("bob") if not heard[text]]
    wrong += [f"doubled in: {text[:9]}" for text, n in heard.items() if n > 1]
    if [line["seq"] for line in bench.lines()] != list(range(1, sum(heard.values()) + 1)):
        wrong.append("a hole in the numbers")
    certain, places = witnesses.by(at, "dropped"), bench.places()
    wrong += [f"lost out: {text}" for name, text in certain if said[text] != 1 or places.get(name) != ["sent"]]
    wrong += [f"doubled out: {text}" for text, n in said.items() if n > 1]
    for path in (bench.folder / "sent").glob("*.receipt.json"):
        told, name = json.loads(path.read_bytes()), path.name.removesuffix(".receipt.json")
        if told["sha256"] != sending.digest(path.with_name(name).read_bytes()) or told["possibleDuplicate"]:
            wrong.append("a false receipt")
    return wrong


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def crashed(kind: str, tmp_path: Path, count: int, seed: int, forgotten: str = "") -> list[str]:
    """So many crashes of this file system; what went wrong in how many."""
    with disk(kind) as made:
        with pytest.MonkeyPatch.context() as patch:
            if forgotten:
                patch.setattr(os, forgotten, lambda _: None)
            witnesses, began = asyncio.run(at_work(made, tmp_path / "home"))
        end = made.at
        made.cut()
        bad = []
        for number, at in enumerate(made.images(count, began, end, random.Random(seed))):
            try:
                wrong = asyncio.run(after_the_crash(made, tmp_path / str(number), witnesses, at))
            except Exception as fault:
                wrong = [f"unreadable: {type(fault).__name__}: {fault}"]
            bad += [wrong] if wrong else []
    kinds = Counter(what.partition(":")[0] for wrong in bad for what in set(wrong))
    print(f"{count} images of {kind}{f' without {forgotten}' if forgotten else ''}: {len(bad)} bad {dict(kinds)}")
    return bad


@pytest.mark.parametrize(("kind", "count"), [("ext4", 600), ("xfs", 200), ("btrfs", 200)])
def test_case_10_what_a_power_cut_leaves_of_a_real_file_system_loses_and_doubles_nothing(tmp_path, kind, count, tally):
    bad = crashed(kind, tmp_path, count, seed=1)
    doubled = sum(any(what.startswith("doubled") for what in wrong) for wrong in bad)
    tally(f"power cut, {kind}", count, lost=len(bad) - doubled, doubled=doubled)
    assert bad == []


@pytest.mark.parametrize("forgotten", ["fdatasync", "fsync"])
def test_case_10_without_a_sync_the_images_of_a_real_file_system_show_it(tmp_path, forgotten):
    assert crashed("ext4", tmp_path, 150, seed=2, forgotten=forgotten)
