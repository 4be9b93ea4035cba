"""What can happen to a daemon, with real processes: faults of its server, its place, its processes, and hands.

Each act says what it did, "" where it could not, and ends by itself or by what it leaves in `undo`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.misbehaving import AMBIGUOUS, Fault, Misbehaving, refusal, status, whole
from tests.world import NEXUS, Daemon

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.misbehaving import Request

NAMES = ("one", "two", "three")
REJOINS = 3  # an hour, for each session
SETTINGS = 'settle = "2s"\npoll_interval = "500ms"\nactive_poll_interval = "100ms"\nlog_level = "info"\n'
KINDS = ("send", "poll", "renew", "join", "describe", "health")


async def _never(_: Any, writer: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(40)
    return False


def late(seconds: float) -> Fault:
    """Carried out, and answered so many seconds later."""

    async def answer(reply: Any, writer: asyncio.StreamWriter) -> bool:

        await asyncio.sleep(seconds)
        writer.write(whole(reply))
        return True

    return Fault(f"late_{seconds:.0f}", True, answer)


WORDS = (
    *AMBIGUOUS,
    Fault("silent", False, _never),
    Fault("swallowed", True, _never),
    late(3),
    late(20),
    late(33),
    status(401, b'{"error":"unauthorized"}'),
    status(403, b'{"error":"Forbidden"}'),
    status(403, b"<html>blocked</html>"),
    refusal(403, "forbidden"),
    refusal(403, "agent_not_in_session"),
    refusal(403, "invalid_session_key"),
    status(404, b"<html>not here</html>"),
    refusal(404, "session_not_found"),
    status(409, b'{"error":"conflict"}'),
    status(410, b"gone"),
    refusal(429, "rate_limit_exceeded", Retry_After="2"),
    refusal(429, "rate_limit_exceeded", Retry_After="0"),
    refusal(503, "session_memory_full", Retry_After="3"),
    status(301, b"", Location="http://127.0.0.1:9/"),
)


class Happenings:
    """A daemon, and all that can happen to it. `log` gets what was done, with the seconds since the start."""

    def __init__(self, home: Path, seed: int, log: Callable[[str], None]) -> None:
        self.chance = random.Random(seed)
        self.home, self._log, self.began = home, log, time.monotonic()
        self.server = Misbehaving()
        self.alice = Daemon(home / "alice", self.server.url, "alice", settings=SETTINGS)
        self.volume = home / "volume"
        self.volume.mkdir(0o700)
        self.mounted = self._mount()
        self.alice.root = self.volume / "nexus"
        self.alice.settings += f'root = "{self.alice.root}"\n'
        self.alice.configure()
        self.sessions: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        for name in NAMES:
            self.alice.add(name, "--create", "--ttl", "600")
            session = next(s for s in self.server.sessions() if s not in self.sessions.values())
            self.sessions[name] = session
            self.keys[name] = self.server.join(session, "peter")
        self.words: list[tuple[float, frozenset[str], str, float, Fault]] = []  # until, kinds, session, odds, fault
        self.texts: dict[str, tuple[str, str]] = {}  # what was dropped: file -> session, text
        self.said = Counter()
        self.evicted = Counter()
        self.did: Counter[str] = Counter()
        self.undo: list[tuple[float, str, Callable[[], None]]] = []
        self.server.faults = self.fault

    # ---- the server

    def fault(self, request: Request) -> Fault | None:
        now = time.monotonic()
        for until, kinds, session, odds, fault in self.words:
            if now < until and request.kind in kinds and session in request.path and self.chance.random() < odds:
                return fault
        return None

    def a_word(self) -> str:
        kinds = frozenset(self.chance.sample(KINDS, self.chance.choice([1, 1, 2, 6])))
        name = self.chance.choice([*NAMES, ""])
        fault, odds = self.chance.choice(WORDS), self.chance.choice([0.2, 0.5, 1.0])
        seconds = self.chance.uniform(0.5, 12)
        self.words.append((time.monotonic() + seconds, kinds, self.sessions.get(name, ""), odds, fault))
        return f"{fault.name} for {', '.join(sorted(kinds))} of {name or 'all'}, odds {odds}, {seconds:.1f} s"

    def a_restart(self) -> str:
        self.server.restart()
        return "the server forgets its messages"

    def an_eviction(self) -> str:
        name = self.chance.choice(NAMES)
        if self.evicted[name] >= REJOINS - 1:
            return ""
        self.evicted[name] += 1
        with contextlib.suppress(KeyError):
            self.server.evict(self.sessions[name], "alice")
        return name

    def no_echo(self) -> str:
        self.server.echo = False
        self.later(self.chance.uniform(1, 20), "echo again", lambda: setattr(self.server, "echo", True))
        return ""

    # ---- the place

    def _mount(self) -> bool:
        image = self.home / "image"
        if os.geteuid() != 0 or shutil.which("mount") is None:
            return False
        if not image.exists():
            subprocess.run(["truncate", "-s", "6m", image], check=True)
            subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        return (
            subprocess.run(["mount", "-o", "loop", image, self.volume], check=False, capture_output=True).returncode
            == 0
        )

    @property
    def _there(self) -> bool:
        return not self.mounted or os.path.ismount(self.volume)

    def a_full_disk(self) -> str:
        if not self._there or (self.volume / "full").exists():
            return ""
        with contextlib.suppress(OSError), (self.volume / "full").open("wb", buffering=0) as file:
            for _ in range(8_000):
                file.write(bytes(1024))

        def again() -> None:
            if self._there:
                (self.volume / "full").unlink(missing_ok=True)
            else:
                self.later(0.5, "room again", again)

        self.later(self.chance.uniform(1, 15), "room again", again)
        return ""

    def an_unmount(self) -> str:
        if not (self.mounted and self._there):
            return ""
        subprocess.run(["umount", "-l", self.volume], check=True, capture_output=True)

        def again() -> None:
            # A daemon that finds neither its root nor client_dir at its start cannot know that there was one.
            strays = list(self.volume.iterdir())
            assert not strays or self.did["a_client_dir_that_is_away"], f"{strays} was made under the mount"
            assert self._mount()

        self.later(self.chance.uniform(1, 15), "mounted again", again)
        return ""

    def a_client_dir_that_is_away(self) -> str:
        client = self.alice.client_dir
        away = client.with_name("client.away")
        if away.exists() or not client.exists():
            return ""
        client.rename(away)
        self.later(self.chance.uniform(1, 10), "client_dir again", lambda: self._back(client, away))
        return "client_dir is away"

    def _back(self, client: Path, away: Path) -> None:
        if client.exists():
            shutil.rmtree(client)
        away.rename(client)

    def a_lost_corner(self) -> str:
        """Something below the root that is the daemon's own is taken away, or put aside."""
        what = self.chance.choice(
            [".nexusd/lock", ".nexusd", "daemon.json", "one/session.json", "two/outbox", "three/sent"]
        )
        path = self.alice.root / what
        with contextlib.suppress(OSError):
            if what.endswith(("outbox", "sent")):
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return what

    def a_link_for_the_outbox(self) -> str:
        outbox = self.alice.root / "two" / "outbox"
        aside = outbox.with_name("outbox.aside")
        if not self._there or aside.exists() or not outbox.is_dir() or outbox.is_symlink():
            return ""
        outbox.rename(aside)
        outbox.symlink_to(self.home)

        def again() -> None:
            if not self._there:  # behind the mount, which comes first
                self.later(0.5, "the outbox is one again", again)
                return
            if outbox.is_symlink():
                outbox.unlink()
            if outbox.exists():
                for path in aside.iterdir():
                    path.rename(outbox / path.name)
                aside.rmdir()
            else:
                aside.rename(outbox)

        self.later(self.chance.uniform(1, 8), "the outbox is one again", again)
        return ""

    # ---- processes

    def a_kill(self) -> str:
        self._stop(signal.SIGKILL)
        self.later(self.chance.uniform(0.0, 4), "started", self._start)
        return ""

    def a_stop(self) -> str:
        self._stop(signal.SIGTERM)
        self.later(self.chance.uniform(0.0, 4), "started", self._start)
        return ""

    def a_halt(self) -> str:
        self.alice.process.send_signal(signal.SIGSTOP)
        process = self.alice.process
        self.later(self.chance.uniform(0.5, 12), "goes on", lambda: process.send_signal(signal.SIGCONT))
        return ""

    def a_reload(self) -> str:
        told = [event["event"] for event in self.alice.events()]
        if told[-1:] and "daemon.ready" in told[::-1][: told[::-1].index("daemon.starting")]:  # a signal may end Python
            self.alice.process.send_signal(signal.SIGHUP)
        return ""

    def _stop(self, how: int) -> None:
        process = self.alice.process
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(60)

    def _start(self) -> None:
        if self.alice.process.poll() is not None:
            self.alice.start(ready=False)

    # ---- people

    def a_hand(self) -> str:
        name = self.chance.choice(NAMES)
        words = self.chance.choice(
            [
                ("renew", name, "--ttl", "60"),
                ("renew", name),
                ("poll", name),
                ("read", name),
                ("send", name, f"hand {sum(self.said.values())}", "--timeout", "4s"),
                ("send", name, f"direct {sum(self.said.values())}", "--direct"),
                ("ls",),
            ]
        )
        environ = {
            **os.environ,
            "NEXUS_CLIENT_DIR": str(self.alice.client_dir),
            "NEXUSD_CONFIG": str(self.alice.config),
        }
        self.said["hand"] += 1
        with (self.home / "hand.log").open("a") as log:
            subprocess.Popen([*NEXUS, *words], env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return " ".join(words)

    def traffic(self) -> str:
        for _ in range(self.chance.randrange(1, 4)):
            name = self.chance.choice(NAMES)
            if self.chance.random() < 0.5:
                self.said[name] += 1
                with contextlib.suppress(Exception):
                    self.server.say(self.sessions[name], "peter", self.keys[name], f"{name} says {self.said[name]}")
            else:
                file, text = f"{len(self.texts):05}.txt", f"file {len(self.texts)} of {name}"
                with contextlib.suppress(OSError):
                    self._drop(name, file, text)
        return "-"

    def _drop(self, name: str, file: str, text: str) -> None:
        if not self._there:
            return
        outbox = self.alice.root / name / "outbox"
        if outbox.is_symlink():
            return
        aside = outbox / f".{file}.tmp"
        try:
            aside.write_text(text)
            aside.rename(outbox / file)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
        self.texts[file] = (name, text)

    # ---- the course

    def later(self, seconds: float, what: str, do: Callable[[], None]) -> None:
        self.undo.append((time.monotonic() + seconds, what, do))

    def log(self, what: str) -> None:
        self._log(f"{time.monotonic() - self.began:7.1f} {what}")

    def _ends(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        while all_of_them and self.undo:
            rows, self.undo = sorted(self.undo, key=lambda row: row[1] != "mounted again"), []
            for _, what, do in rows:
                self.log(what)
                do()
        for row in sorted(self.undo, key=lambda row: row[0]):
            if all_of_them or row[0] <= now:
                self.undo.remove(row)
                self.log(row[1])
                row[2]()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._stop(signal.SIGKILL)
        subprocess.run(["umount", "-l", self.volume], check=False, capture_output=True)
        self.server.close()
