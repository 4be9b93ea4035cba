"""Real processes and real files: a relay, daemons with a root each, and what stands in their folders."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0  # seconds; a bound on a wait for a state, never a wait by itself
NEXUSD = [sys.executable, "-m", "nexusd.cli.nexusd"]
NEXUS = [sys.executable, "-m", "nexusd.cli.nexus"]


def until(found, what: str = "it did not happen", patience: float = PATIENCE) -> Any:
    """Wait until `found()` is true; its value. A file it reads may come or go while it looks: it looks again."""
    end = time.monotonic() + patience
    while True:
        try:
            if result := found():
                return result
        except FileNotFoundError:
            if time.monotonic() >= end:
                raise
        assert time.monotonic() < end, f"{what} within {patience} s"
        time.sleep(0.01)


class Relay:
    """The relay as a process."""

    def __init__(self, folder: Path, *, port: int = 0, data_dir: Path | None = None, rate_limit: int = 0) -> None:
        self.folder = folder
        self.port = port
        self.words = ["--rate-limit", str(rate_limit), *(["--data-dir", str(data_dir)] if data_dir else [])]
        self.start()

    def start(self) -> None:
        log = (self.folder / "relay.log").open("a")
        self.process = subprocess.Popen(
            [*NEXUSD, "relay", "--port", str(self.port), *self.words], stdout=subprocess.PIPE, stderr=log
        )
        log.close()
        line = self.process.stdout.readline()
        assert line, (self.folder / "relay.log").read_text()
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def session(self, **body: Any) -> str:
        """A new session's id."""
        return self.ask("PUT", "/v1/sessions", json=body).json()["sessionId"]

    def ask(self, method: str, path: str, agent: str | None = None, key: str | None = None, **more) -> httpx.Response:
        headers = {"X-Agent-Id": agent} if agent else {}
        if key:
            headers["X-Session-Key"] = key
        answer = httpx.request(method, self.url + path, headers=headers, trust_env=False, timeout=PATIENCE, **more)
        answer.raise_for_status()
        return answer

    def join(self, session: str, agent: str) -> str:
        """The agent's key."""
        return self.ask("POST", f"/v1/sessions/{session}/join", agent, json={}).json()["sessionKey"]

    def say(self, session: str, agent: str, key: str, text: str) -> dict[str, Any]:
        return self.ask("POST", f"/v1/sessions/{session}/messages", agent, key, json={"text": text}).json()

    def messages(self, session: str, agent: str) -> list[dict[str, Any]]:
        return self.ask("GET", f"/v1/sessions/{session}/messages", agent).json()["messages"]


class Daemon:
    """A daemon with a home of its own. `settings` are TOML lines of the configuration."""

    def __init__(self, home: Path, server: str, agent: str, *, settings: str = "") -> None:
        self.home = home
        self.agent = agent
        self.config = home / "config.toml"
        self.root = home / "nexus"
        self.client_dir = home / "client"
        home.mkdir(mode=0o700)
        self.server = server
        self.settings = settings
        self.configure()
        self.process: subprocess.Popen | None = None

    def configure(self, extra: str = "", sessions: str = "") -> None:
        """Write the configuration; `extra` lines outrank the usual ones."""
        usual = {
            "server": f'"{self.server}"',
            "agent_id": f'"{self.agent}"',
            "root": '"nexus"',
            "client_dir": '"client"',
            "poll_interval": '"200ms"',
            "active_poll_interval": '"50ms"',
            "requests_per_minute": "0",
            "transport": '"httpx"',
            "log_format": '"json"',
            "log_level": '"debug"',
            "settle": '"200ms"',
        }
        for line in (self.settings + "\n" + extra).splitlines():
            if "=" in line:
                key, _, value = line.partition("=")
                usual[key.strip()] = value.strip()
        text = "".join(f"{key} = {value}\n" for key, value in usual.items()) + sessions
        aside = self.config.with_suffix(".new")
        aside.touch(0o600)
        aside.write_text(text)
        aside.rename(self.config)

    def command(self, *words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `nexusd` to its end."""
        ran = subprocess.run(
            [*NEXUSD, *words, "--config", str(self.config)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert not check or ran.returncode == 0, (ran.returncode, ran.stderr)
        return ran

    def add(self, name: str, *words: str, stdin: str | None = None) -> dict[str, Any]:
        """Run `nexusd add`; what it says."""
        return json.loads(self.command("add", name, *words, stdin=stdin).stdout)

    def start(self, *, ready: bool = True, environment: dict[str, str] | None = None, prefix: tuple = ()) -> None:
        began = len(self.events()) if (self.home / "log").exists() else 0
        with (self.home / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*prefix, *NEXUSD, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        if ready:
            until(lambda: "daemon.ready" in [e["event"] for e in self.events()[began:]], "the daemon was not ready")

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        assert self.stop(signal.SIGKILL) == -signal.SIGKILL

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def events(self) -> list[dict[str, Any]]:
        """The log's whole lines."""
        found = []
        for line in (self.home / "log").read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def folder(self, name: str) -> Path:
        return self.root / name

    def drop(self, name: str, file: str, data: str | bytes) -> Path:
        """Drop a file the careful way: under another name, then renamed."""
        outbox = self.folder(name) / "outbox"
        aside = outbox / f".{file}.tmp"
        aside.write_bytes(data.encode() if isinstance(data, str) else data)
        return aside.rename(outbox / file)

    def inbox(self, name: str) -> list[dict[str, Any]]:
        """All whole lines, of rotated parts too, in order."""
        folder = self.folder(name)
        rotated = sorted(folder.glob("inbox-*.jsonl"), key=lambda p: int(p.stem.split("-")[1]))
        lines = []
        for path in [*rotated, folder / "inbox.jsonl"]:
            with contextlib.suppress(FileNotFoundError):
                data = path.read_bytes()
                lines += [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
        return lines

    def texts(self, name: str) -> list[str]:
        return [line["text"] for line in self.inbox(name) if line["kind"] == "message"]

    def notices(self, name: str) -> list[str]:
        return [line["notice"] for line in self.inbox(name) if line["kind"] == "notice"]

    def view(self, name: str) -> dict[str, Any]:
        path = self.folder(name) / "session.json"
        until(path.exists, "no session.json")
        return json.loads(path.read_text())

    def receipt(self, name: str, file: str) -> dict[str, Any]:
        """Wait for a file's receipt."""
        path = self.folder(name) / "sent" / f"{file}.receipt.json"
        until(lambda: path.exists() and os.path.lexists(path.with_name(file)), f"no receipt for {file}")
        return json.loads(path.read_text())

    def error(self, name: str, file: str) -> dict[str, Any]:
        """Wait for a file's error."""
        path = self.folder(name) / "failed" / f"{file}.error.json"
        until(lambda: path.exists() and os.path.lexists(path.with_name(file)), f"no error for {file}")
        return json.loads(path.read_text())

    def places(self, name: str) -> dict[str, list[str]]:
        """Where each dropped file is; notes left out."""
        folder = self.folder(name)
        found: dict[str, list[str]] = {}
        for place in ("outbox", "sent", "failed"):
            for path in (folder / place).iterdir():
                if not path.name.endswith((".receipt.json", ".error.json")) and not path.name.startswith("."):
                    found.setdefault(path.name, []).append(place)
        for path in (folder / ".nexusd" / "sending").glob("*/*"):
            found.setdefault(path.name, []).append("sending")
        return found

    def texts_everywhere(self) -> str:
        """All that was logged or written below the root: where no secret may be."""
        files = [p for p in self.root.rglob("*") if p.is_file()] + [self.home / "log"]
        return "\n".join(p.read_text(errors="replace") for p in files)


def checked_seq(lines: list[dict[str, Any]]) -> None:
    """The lines' numbers have no hole and no repeat."""
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
