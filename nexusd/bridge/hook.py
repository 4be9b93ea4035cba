"""on_message: a program of the user's, run for each batch of new lines.

It gets the lines on standard input and nothing of a peer's on its command line or in its environment. Its bookmark
moves after it has succeeded, so a line is shown to it at least once, crashes included. Whatever it does, the inbox
goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from nexusd.spool.bookmark import Bookmark
from nexusd.spool.reading import Inbox
from nexusd.wire.backoff import Backoff

if TYPE_CHECKING:
    from nexusd.bridge.session import Session

READER = "_hook"  # whose bookmark it is, among the readers of this inbox
BATCH_LINES = 1_000
BATCH_BYTES = 4 << 20
OUTPUT = 4_096  # bytes of what it prints that are logged
LONGEST_BACKOFF = 300.0  # seconds
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM")


class Hook:
    """One session's hook; one run at a time, what arrives meanwhile goes into the next."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inbox = Inbox(session.folder.path)
        self._backoff = Backoff(longest=LONGEST_BACKOFF)
        self._bookmark = Bookmark(session.client_dir.path, session.folder.path, READER)
        if self._bookmark.exists:
            self._bookmark.load()
            self._bookmark.fits(session.state.seq)
        elif session.settings.on_message:
            self._bookmark.consume(upto=session.state.seq)  # a new hook begins with what comes from now on

    async def step(self) -> float | None:
        """Run the program for what is new; the seconds until the next run, or None until something is."""
        session = self._session
        if not session.settings.on_message:
            return None
        if not self._bookmark.exists:
            self._bookmark.consume(upto=session.state.seq)
        lines, last = await asyncio.to_thread(self._batch)
        if not lines:
            return None
        failure = await self._run(lines)
        if failure is not None:
            delay = self._backoff.failed()
            session.log.warning("hook.failed", why=failure, again_in=round(delay))
            return delay
        self._backoff.succeeded()
        await asyncio.to_thread(lambda: self._bookmark.consume(upto=last))
        return 0.0

    def _batch(self) -> tuple[list[bytes], int]:
        lines: list[bytes] = []
        last, size = self._bookmark.seq, 0
        for line in self._inbox.after(last):
            if lines and (size + len(line.data) > BATCH_BYTES or len(lines) == BATCH_LINES):
                break
            lines.append(line.data)
            last, size = line.seq, size + len(line.data)
        return lines, last

    async def _run(self, lines: list[bytes]) -> str | None:
        """Run it once; why it failed, or None."""
        session = self._session
        command = session.settings.on_message
        environment = {k: v for k, v in os.environ.items() if k not in _OURS}
        environment.update(NEXUS_SESSION=session.name, NEXUS_INBOX=session.folder.inbox, NEXUS_COUNT=str(len(lines)))
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=session.folder.path,
                env=environment,
                start_new_session=True,
            )
        except OSError as fault:
            return f"{command[0]} cannot be run: {fault.strerror}"
        reading = asyncio.create_task(_output(process.stdout))
        feeding = asyncio.create_task(_feed(process.stdin, b"".join(lines)))
        try:
            async with asyncio.timeout(session.settings.hook_timeout):
                status = await process.wait()
        except TimeoutError:
            return f"it ran for longer than hook_timeout ({session.settings.hook_timeout:g} s) and was ended"
        finally:
            if process.returncode is None:  # too slow, or we are being stopped
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            feeding.cancel()
            done, _ = await asyncio.wait({reading}, timeout=0.2)  # a child of its may hold the pipe for ever
            reading.cancel()
            if done and (said := reading.result()):
                session.log.info("hook.output", text=said.decode(errors="replace").rstrip("\n"))
        return None if status == 0 else f"it ended with {status}"


async def _feed(stdin: asyncio.StreamWriter | None, data: bytes) -> None:
    """Give it the lines; one that does not read them all is its own affair."""
    if stdin is not None:
        with contextlib.suppress(ConnectionError):
            stdin.write(data)
            await stdin.drain()
            stdin.close()
            await stdin.wait_closed()


async def _output(stdout: asyncio.StreamReader | None) -> bytes:
    """The beginning of what it prints; the rest is read and thrown away."""
    kept = b""
    while stdout is not None and (block := await stdout.read(65_536)):
        kept += block[: OUTPUT - len(kept)]
    return kept
