"""Each disk call of a cycle fails in each way; when the fault ends everything goes on by itself, once and in order."""

from __future__ import annotations

import asyncio
import errno

import pytest

from tests.faults.bench import CHANGING, Bench, tripped

THEIRS, OURS = ["one", "two", "three"], ["uno", "dos"]
FULL, BROKEN, READ_ONLY, NO_DESCRIPTORS = errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE
# What each errno can come from.
SOURCES = {
    FULL: {"open", "write", "rename", "replace", "mkdir", "fsync", "fdatasync"},
    BROKEN: set(CHANGING),
    READ_ONLY: {"open", "ftruncate", "rename", "replace", "mkdir", "rmdir", "unlink"},
    NO_DESCRIPTORS: {"open", "scandir", "listdir"},
}


async def cycle(home, trip, *, late=False, turns=3):
    """A life with a fault in its cycle, then the same life without. What was called, and the bench."""
    bench = Bench(home)
    bench.start()
    bench.server.say("alice", "earlier")  # so that echo is known
    await bench.until_done()
    for text in THEIRS:
        bench.server.say("bob", text)
    for text in OURS:
        bench.drop(f"{text}.txt", text)
    with tripped(trip, late=late) as disk:
        for _ in range(turns):
            await bench.turn()
    bench.server.lose = lambda: ""
    await bench.until_done()
    bench.check(theirs=THEIRS, ours=["earlier", *OURS])
    assert bench.places() == {f"{text}.txt": ["sent"] for text in OURS}
    bench.close()
    return disk.calls, bench


def calls_of(home):
    calls, _ = asyncio.run(cycle(home, lambda *_: None, turns=5))
    return calls


@pytest.mark.parametrize("late", [False, True], ids=["not_done", "done_all_the_same"])
@pytest.mark.parametrize("code", SOURCES, ids=errno.errorcode.get)
def test_case_13_to_19_each_call_of_the_cycle_fails_once(tmp_path, code, late):
    calls = calls_of(tmp_path / "plain")
    tried = 0
    for number, name in enumerate(calls):
        if name not in SOURCES[code]:
            continue
        tried += 1
        home = tmp_path / str(number)
        asyncio.run(cycle(home, lambda _, n, number=number: code if n == number else None, late=late, turns=5))
    assert tried > 10
    print(f"{errno.errorcode[code]}: {tried} calls failed one by one, lost 0, doubled 0")


@pytest.mark.parametrize("code", SOURCES, ids=errno.errorcode.get)
def test_case_13_to_18_everything_fails_from_each_call_on_for_a_while(tmp_path, code):
    """As a full disk does: from one call on nothing works, until there is room again."""
    calls = calls_of(tmp_path / "plain")
    for number in range(0, len(calls), 4):
        home = tmp_path / str(number)

        def trip(name, n, number=number):
            return code if n >= number and name in SOURCES[code] else None

        asyncio.run(cycle(home, trip, turns=4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("length", [2, 5, 12, 30])
@pytest.mark.parametrize("code", SOURCES, ids=errno.errorcode.get)
def test_case_13_to_19_each_call_of_the_cycle_and_those_behind_it_fail(tmp_path, code, length, tally):
    calls = calls_of(tmp_path / "plain")
    for number in range(len(calls)):

        def trip(name, n, number=number):
            return code if number <= n < number + length and name in SOURCES[code] else None

        asyncio.run(cycle(tmp_path / str(number), trip, late=bool(number % 2), turns=5))
    tally("failing disk call, and behind it", len(calls))


def test_case_14_without_room_for_the_intent_nothing_is_sent(tmp_path):
    async def main():
        bench = Bench(tmp_path / "home", settings='on_ambiguous = "fail"')
        bench.start()
        await bench.until_done()
        bench.drop("a.txt", "a")
        with tripped(lambda name, _: FULL if name == "write" else None):
            for _ in range(5):
                await bench.turn()
        assert bench.server.said("alice") == []
        await bench.until_done()
        assert bench.places() == {"a.txt": ["sent"]}
        assert bench.server.said("alice") == ["a"]
        bench.close()

    asyncio.run(main())


def test_case_15_without_room_for_the_receipt_nothing_is_sent_twice_though_the_daemon_dies(tmp_path):
    async def main():
        bench = Bench(tmp_path / "home")
        bench.start()
        bench.server.say("alice", "earlier")
        await bench.until_done()
        bench.drop("a.txt", "a")
        writes = []

        def trip(name, _):
            writes.append(name == "write")
            return FULL if name == "write" and bench.server.said("alice")[1:] else None

        with tripped(trip):
            for _ in range(5):
                await bench.turn()
        assert bench.server.said("alice") == ["earlier", "a"]
        bench.close()
        bench.start()
        await bench.until_done()
        bench.check(theirs=[], ours=["earlier", "a"])
        bench.close()

    asyncio.run(main())


def test_case_13_lines_that_are_there_though_the_append_failed_are_not_written_again(tmp_path):
    async def main():
        bench = Bench(tmp_path / "home")
        bench.start()
        await bench.until_done()
        for text in THEIRS:
            bench.server.say("bob", text)
        with tripped(lambda name, _: BROKEN if name == "fdatasync" else None):
            for _ in range(3):
                await bench.turn()
        await bench.until_done()
        bench.check(theirs=THEIRS, ours=[])
        bench.close()

    asyncio.run(main())
