"""A message through a daemon's outbox: dropped as a file, awaited as a receipt. No HTTP here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, NamedTuple

from nexusd.errors import UserError

_FIRST, _LONGEST = 0.002, 0.05  # seconds between two looks


class Drop(NamedTuple):
    """A dropped file."""

    folder: str
    name: str


class Outcome(NamedTuple):
    """What became of it: what to show, the exit status, and a sentence for people."""

    shown: dict[str, Any]
    status: int = 0
    sentence: str | None = None


def drop(folder: str, text: str | None, payload: Any) -> Drop:
    """Put a message into the outbox, whole or not at all: written aside, then renamed."""
    unique = f"{time.time_ns():x}-{os.urandom(4).hex()}"  # sorts by time
    if payload is None:
        # The daemon drops one newline at the end of a text.
        name, data = f"{unique}.txt", f"{text}\n"
    elif text is None:
        name, data = f"{unique}.json", _json(payload)
    else:
        name, data = f"{unique}.msg.json", _json({"text": text, "json": payload})
    outbox = os.path.join(folder, "outbox")
    aside = os.path.join(outbox, f".{name}.tmp")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise UserError(
            "no_outbox", f"nothing can be dropped into {outbox} ({fault.strerror}); to send by HTTP add --direct"
        ) from None
    try:
        with open(fd, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(fd)
        os.rename(aside, os.path.join(outbox, name))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    return Drop(folder, name)


def outcome(dropped: Drop, timeout: float) -> Outcome:
    """Wait at most `timeout` seconds for what became of a drop; one that nobody claimed by then is taken back."""
    deadline = time.monotonic() + timeout
    pause = _FIRST
    try:
        while (found := _noted(dropped)) is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(pause * 1.2, _LONGEST)
    except KeyboardInterrupt:
        _take_back(dropped)
        raise
    if found is not None:
        return found
    if _take_back(dropped):
        return Outcome(
            {"error": "not_sent", "message": f"no daemon claimed it within {timeout:g} s; it was taken back"},
            1,
            "nexus: no daemon claimed the message, and it was taken back; see nexusd status, or send with --direct",
        )
    return _noted(dropped) or Outcome(
        {"status": "queued", "file": dropped.name},
        0,
        f"the daemon has it, but the server has not answered yet; the receipt will be in "
        f"{os.path.join(dropped.folder, 'sent', dropped.name)}.receipt.json",
    )


def _noted(dropped: Drop) -> Outcome | None:
    """The receipt or the error that is beside the file at its end."""
    receipt = _read(dropped, "sent", ".receipt.json")
    if receipt is not None:
        doubt = "warning: it may have been sent twice" if receipt.get("possibleDuplicate") else None
        return Outcome(receipt, 0, doubt)
    error = _read(dropped, "failed", ".error.json")
    if error is not None:
        said = [str(error.get(k)) for k in ("message", "remedy") if error.get(k)]
        return Outcome(error, 1, f"nexus: not sent: {'; '.join(said) or error.get('error')}")
    return None


def _read(dropped: Drop, place: str, suffix: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(dropped.folder, place, dropped.name + suffix), "rb") as file:
            value = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _take_back(dropped: Drop) -> bool:
    """Remove the drop, if nobody has claimed it yet."""
    try:
        os.unlink(os.path.join(dropped.folder, "outbox", dropped.name))
    except FileNotFoundError:
        return False
    return True


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))  # ASCII: lone surrogates stay what they are
