"""How real tools write a file into an outbox, while it is looked into all the time, far more often than a daemon does.

None of them fails, and what is taken has its last name and is whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from nexusd.spool.outbox import Outbox
from nexusd.spool.sending import Sending
from tests.world import until

WHOLE = "the whole message\n" * 20
PATIENT = 1.0  # the quiet time here: a busy machine makes a writer slow

Step = Callable[[], None]


class Taker(threading.Thread):
    """Takes what is done from an outbox, as a daemon does, without a pause."""

    def __init__(self, folder, quiet: float) -> None:
        super().__init__(daemon=True)
        self._box, self._claims, self._quiet = Outbox(folder.outbox), Sending(folder), quiet
        self.taken: list[tuple[str, str]] = []
        self.looks = 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            look = self._box.look(self._quiet)
            self.looks += 1
            while look.ready:
                drop = look.ready.popleft()
                done = self._box.is_done(drop)
                claimed = self._claims.claim(drop.name) if done else None
                if claimed is not None:
                    self.taken.append((claimed.name, (self._claims.read(claimed, 1 << 20) or b"").decode()))
                elif done is False:
                    look.put_off(drop)

    def step(self) -> None:
        """What a writer does between two steps: wait until it has been looked for several times."""
        before = self.looks
        until(lambda: self.looks > before + 3)

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def taker(folder):
    made = []

    def start(quiet: float = PATIENT) -> Taker:
        made.append(Taker(folder, quiet))
        made[-1].start()
        until(lambda: made[-1].looks)
        return made[-1]

    yield start
    for each in made:
        each.stop()


def editor(outbox: Path, name: str, step: Step) -> None:
    """Editors and the tools with which agents write: beside it, closed, then renamed."""
    aside = outbox / f"{name}.tmp.{os.getpid()}.{os.urandom(6).hex()}"
    aside.write_text(WHOLE)
    step()
    aside.rename(outbox / name)


def sed(outbox: Path, name: str, step: Step) -> None:
    """A file of two steps: written, then edited in place, which is another file that is renamed over it."""
    (outbox / name).write_text(WHOLE.replace("whole", "HOLE"))
    step()
    subprocess.run(["sed", "-i", "s/HOLE/whole/", outbox / name], check=True)


def mkstemp(outbox: Path, name: str, step: Step) -> None:
    fd, aside = tempfile.mkstemp(dir=outbox, prefix="atomic", suffix=".txt")
    with open(fd, "w") as file:
        file.write(WHOLE)
    step()
    os.chmod(aside, 0o644)
    step()
    os.replace(aside, outbox / name)


def install(outbox: Path, name: str, step: Step) -> None:
    source = outbox.parent / "source"
    source.write_text(WHOLE)
    subprocess.run(["install", "-m", "640", source, outbox / name], check=True)


def copy(outbox: Path, name: str, step: Step) -> None:
    """shutil.copy on a slow machine: the mode is set by name, once the copy is closed."""
    source = outbox.parent / "source"
    source.write_text(WHOLE)
    shutil.copyfile(source, outbox / name)
    step()
    shutil.copymode(source, outbox / name)


def unzip(outbox: Path, name: str, step: Step) -> None:
    (outbox / name).write_text(WHOLE)
    step()
    os.utime(outbox / name, (1e9, 1e9))
    step()
    os.chmod(outbox / name, 0o640)


def in_pieces(outbox: Path, name: str, step: Step) -> None:
    """A shell script with a line of >> for each piece."""
    for line in WHOLE.splitlines(keepends=True)[:5]:
        with (outbox / name).open("a") as file:
            file.write(line)
        step()
    with (outbox / name).open("a") as file:
        file.write("".join(WHOLE.splitlines(keepends=True)[5:]))


def exclusive(outbox: Path, name: str, step: Step) -> None:
    """A name is reserved, then what is written aside is linked in its place."""
    aside = outbox / f"{name}.{os.getpid()}"
    aside.write_text(WHOLE)
    step()
    os.link(aside, outbox / name)
    step()
    aside.unlink()


PATTERNS = [editor, sed, mkstemp, install, copy, unzip, in_pieces, exclusive]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_case_131_and_132_no_tool_fails_and_what_is_taken_is_whole_under_its_last_name(folder, taker, pattern):
    taking = taker()
    names = [f"reply{n}.md" for n in range(3)]
    for name in names:
        pattern(Path(folder.outbox), name, taking.step)
    until(lambda: len(taking.taken) >= len(names))
    taking.stop()
    assert sorted(taking.taken) == [(name, WHOLE) for name in names]
    assert os.listdir(folder.outbox) == []


@pytest.mark.parametrize("pattern", [editor, sed, mkstemp, copy, unzip, in_pieces])
def test_without_a_quiet_time_the_same_tools_fail_or_are_taken_half(folder, taker, pattern):
    taking = taker(0.0)
    for n in range(20):
        try:
            pattern(Path(folder.outbox), f"reply{n}.md", taking.step)
        except (OSError, subprocess.CalledProcessError):
            return
        if any(name != f"reply{n}.md" or text != WHOLE for name, text in taking.taken[-1:]):
            return
    pytest.fail("nothing went wrong: these patterns prove nothing")


def test_case_131_nothing_is_taken_while_its_writer_has_it_open_however_long_it_is_still(folder, taker):
    taking = taker()
    program = (
        "import sys, time\n"
        "with open(sys.argv[1], 'w') as file:\n"
        "    file.write('half')\n"
        "    file.flush()\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.read()\n"
        "    file.write(' and half')\n"
    )
    path = os.path.join(folder.outbox, "x")
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writing:
        assert writing.stdout.readline() == b"written\n"
        before = taking.looks
        until(lambda: taking.looks > before + 20)
        assert taking.taken == []
        writing.stdin.close()
    until(lambda: taking.taken)
    assert taking.taken == [("x", "half and half")]
