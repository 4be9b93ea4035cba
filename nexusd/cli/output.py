"""The one place that prints: JSON for programs on stdout, sentences for people on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NoReturn

from nexusd.errors import RequestError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

Shown = dict[str, Any] | str | bytes
"""A JSON object, JSON text, or bytes that are printed as they are (lines of an inbox, `--text`)."""

Verb = Generator[Shown, None, int | None]
"""A command at work: it yields what to print, goes on when that is flushed, and may return an exit status."""

INTERRUPTED = 130
CLOSED_PIPE = 141  # as a shell shows a death by SIGPIPE
_SECRET_PATHS = re.compile(r"(sessions/)[^/'\"]+")


def document(value: Shown) -> None:
    """Print one JSON document on one line and flush it: a stream is a document each time."""
    data = value if isinstance(value, bytes) else (safe(_text(value)) + "\n").encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(sentence: str) -> None:
    """Tell a person something. Control characters in it come out as \ufffd."""
    shown = "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in sentence.split("\n"))
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.buffer.write((shown + "\n").encode(errors="replace"))
        sys.stderr.buffer.flush()


def show(verb: Verb) -> int:
    """Print all that a command yields; its exit status.

    Where the reader is gone, what stands behind the `yield` is not done. A Ctrl-C while printing reaches the command
    like one at any other time.
    """
    try:
        while True:
            document(next(verb))
    except StopIteration as end:
        return end.value or 0
    except BrokenPipeError:
        verb.close()
        raise
    except KeyboardInterrupt as stop:
        try:
            verb.throw(stop)
        except StopIteration as end:
            return end.value or 0
        raise


def run(main: Callable[[], int], program: str = "nexus") -> int:
    """Run a program; every error that it can meet ends as a JSON document, a sentence and an exit status.

    UserError: its own status. RequestError and OSError: 1. Ctrl-C: 130, a closed pipe: 141, both without a word.
    """
    _make_sure_of_streams()
    try:
        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is still in the buffer must not be tried again at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    except (UserError, RequestError, OSError) as fault:
        return _failed(fault, program)


def _make_sure_of_streams() -> None:
    """Where a standard stream was closed, /dev/null is in its place: else the next file opened would be."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, and those below are not
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False, encoding="utf-8"))  # noqa: SIM115


def end(status: int) -> NoReturn:
    """End the process at once: taking the interpreter apart would cost a hand command 6 ms more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def error(fault: UserError | RequestError | OSError) -> dict[str, Any]:
    """What stdout says of an error: the server's own object where it sent one."""
    if isinstance(fault, OSError):
        return {"error": "local_files", "message": _words(fault)}
    body = fault.body if isinstance(fault, RequestError) else None
    return dict(body) if body else {"error": fault.code, "message": str(fault)}


def safe(text: str) -> str:
    """JSON text on one line, without anything that could move a cursor, hide text or fail to be encoded."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def shown_path(path: str) -> str:
    """A path without the session id in it."""
    return _SECRET_PATHS.sub(r"\1...", path)


def _failed(fault: UserError | RequestError | OSError, program: str) -> int:
    said = error(fault)
    with contextlib.suppress(OSError):
        document(said)
    message = said.get("message")
    say(f"{program}: {message}" if isinstance(message, str) and message else f"{program}: {said['error']}")
    return fault.exit_status if isinstance(fault, UserError) else 1


def _text(value: dict[str, Any] | str) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _escaped(char: str) -> str:
    if char in "\t\n\r":
        return " "  # raw in JSON text they can only be white space between tokens
    code = ord(char)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"


def _words(fault: OSError) -> str:
    """An OSError in words; a path under `sessions/` holds a session id, which is a secret."""
    path = shown_path(os.fsdecode(fault.filename)) if isinstance(fault.filename, str | bytes) else ""
    reason = fault.strerror or str(fault) or type(fault).__name__
    return f"{path}: {reason}" if path else reason
