"""demo: two agents, two daemons and a relay on this machine, talking through files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from nexusd.cli.output import say
from nexusd.cli.service.relaying import MISSING
from nexusd.errors import UserError
from nexusd.spool import atomic

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from nexusd.cli.output import Verb

PATIENCE = 10.0  # seconds for any one thing to happen
CONFIG = """\
server = "{server}"
agent_id = "{agent}"
root = "nexus"
client_dir = "client"
poll_interval = "2s"
active_poll_interval = "250ms"
log_format = "json"
"""


def demo_arguments(parser: ArgumentParser) -> None:
    """Declare what `demo` takes."""
    parser.add_argument("--keep", action="store_true", help="leave it running and print the folders to play with")


def demo(args: Namespace) -> Verb:
    """Show the whole way of a message, there and back."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the daemons must not outlive us
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="nexusd-demo-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = _relay(stack, folder)
        alice, bob = (_Agent(folder, name, server) for name in ("alice", "bob"))
        say(f"1. a relay listens on {server}; alice and bob have a folder each in {folder}")
        link = alice.command("add", "bob", "--create", "--ttl", "60s")["link"]
        bob.command("add", "alice", "--code", "-", stdin=link)
        say("2. alice made a session and gave bob its pairing link; bob used it")
        alice.start(stack, "bob")
        bob.start(stack, "alice")
        say("3. two daemons run, one for each")
        sent = alice.drop("hello.txt", "Hello Bob! Are you there?\n")
        heard = bob.hears("Hello Bob! Are you there?")
        say(f"4. alice dropped {sent}; bob's inbox got the line:\n     {json.dumps(heard, ensure_ascii=False)}")
        bob.drop("answer.json", json.dumps({"answer": "yes", "mood": "fine"}))
        heard = alice.hears({"answer": "yes", "mood": "fine"})
        say(f"5. bob dropped a JSON file in answer; alice's inbox got the line:\n     {json.dumps(heard)}")
        receipt = alice.receipt("hello.txt")
        say(f"6. alice's file is in sent/ with its receipt:\n     {json.dumps(receipt)}")
        left = alice.renewed()
        say(f"7. the session would expire after 60 s of silence; the daemon renewed it, it has {left} s again")
        if args.keep:
            yield {"demo": "running", "alice": alice.folder, "bob": bob.folder, "server": server}
            say(f"it goes on: drop files into {alice.folder}/outbox and read {bob.folder}/inbox.jsonl; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    if not args.keep:
        yield {
            "demo": "done",
            "seconds": round(time.monotonic() - began, 2),
            "delivered": 2,
            "receipt": receipt,
            "renewedTo": left,
        }
        say("that is all there is to it: agents read and write files, nexusd does the rest. Next: nexusd add --help")
    return 0


class _Agent:
    """One side: its own root, its own secrets, its own daemon."""

    def __init__(self, folder: str, name: str, server: str) -> None:
        self._home = os.path.join(folder, name)
        self._peer = ""
        atomic.private_folder(self._home)
        self._config = os.path.join(self._home, "config.toml")
        atomic.replace(self._config, CONFIG.format(server=server, agent=name).encode())

    @property
    def folder(self) -> str:
        """The session's folder."""
        return os.path.join(self._home, "nexus", self._peer)

    def command(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """Run `nexusd` as a person would; what it says on stdout."""
        ran = subprocess.run(
            [*_PROGRAM, *words, "--config", self._config], input=stdin, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            raise UserError("demo_failed", f"nexusd {words[0]} failed: {ran.stderr.strip()}")
        return dict(json.loads(ran.stdout))

    def start(self, stack: contextlib.ExitStack, peer: str) -> None:
        """Start the daemon."""
        self._peer = peer
        self._log = os.path.join(self._home, "log")
        errors = stack.enter_context(open(self._log, "w", encoding="utf-8"))
        _started(stack, [*_PROGRAM, "run", "--config", self._config], stdout=subprocess.DEVNULL, stderr=errors)
        _until(lambda: os.path.exists(os.path.join(self.folder, "session.json")), "the daemon did not start")

    def drop(self, name: str, text: str) -> str:
        """Drop a file, as anyone would."""
        path = os.path.join(self.folder, "outbox", name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def hears(self, what: object) -> dict[str, Any]:
        """Wait for a message in the inbox."""

        def found() -> dict[str, Any] | None:
            lines = _lines(os.path.join(self.folder, "inbox.jsonl"))
            return next((line for line in lines if what in (line.get("text"), line.get("json"))), None)

        return dict(_until(found, "the message did not arrive"))

    def receipt(self, name: str) -> dict[str, Any]:
        """Wait for a file's receipt."""
        path = os.path.join(self.folder, "sent", f"{name}.receipt.json")
        return dict(_until(lambda: next(_lines(path), None), "there is no receipt"))

    def renewed(self) -> int:
        """Wait for a renewal; the seconds that it gave."""

        def found() -> int | None:
            return next((e["seconds"] for e in _lines(self._log) if e.get("event") == "session.renewed"), None)

        return int(_until(found, "the session was not renewed"))


_PROGRAM = [sys.executable, "-m", "nexusd.cli.nexusd"]


def _relay(stack: contextlib.ExitStack, folder: str) -> str:
    """Start a relay on a free port; its URL."""
    try:
        import starlette  # noqa: F401, PLC0415
        import uvicorn  # noqa: F401, PLC0415
    except ImportError:
        raise UserError("relay_not_installed", MISSING) from None
    errors = stack.enter_context(open(os.path.join(folder, "relay.log"), "w", encoding="utf-8"))
    process = _started(
        stack, [*_PROGRAM, "relay", "--port", "0", "--rate-limit", "0"], stdout=subprocess.PIPE, stderr=errors
    )
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise UserError("demo_failed", "the relay did not start")
    return str(json.loads(line)["url"])


def _started(stack: contextlib.ExitStack, command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)
    return process


def _until(found: Callable[[], Any], otherwise: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.02)
    raise UserError("demo_failed", f"{otherwise} within {PATIENCE:.0f} s")


def _lines(path: str) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    with contextlib.suppress(ValueError):
                        yield json.loads(line)
    except FileNotFoundError:
        return
