"""The log: structlog on stderr, one event one line, never a secret."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

if TYPE_CHECKING:
    from nexusd.secrets import Secrets

_PIECE = 1024  # characters, at most 4096 bytes: what a pipe that can be written to takes without blocking
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(level: str, form: str, secrets: Secrets) -> structlog.typing.FilteringBoundLogger:
    """The process's log. `form` is auto, console, logfmt or json; auto: as fits where stderr goes."""
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "logfmt" if _under_journald() else "json"

    def without_secrets(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {key: _removed(secrets, value) for key, value in event.items()}

    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    if form == "console":
        processors += [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ),
        ]
    elif form == "logfmt":
        processors += [_with_priority]
    else:
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Patient(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


class _Patient(io.TextIOBase):
    """Standard error, which may be closed, full or read by nobody: a log line is never worth a message or a moment."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._torn = False  # a line was cut: the next one begins on a line of its own

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written at once."""
        with contextlib.suppress(OSError, ValueError):
            whole = f"\n{text}" if self._torn else text
            for at in range(0, len(whole), _PIECE):
                if not self._takes():
                    self._torn = self._torn or at > 0
                    break
                self._stream.write(whole[at : at + _PIECE])
                self._stream.flush()
            else:
                self._torn = False
        return len(text)

    def _takes(self) -> bool:
        """Whether writing would not block."""
        try:
            poll = select.poll()
            poll.register(self._stream, select.POLLOUT)
            return bool(poll.poll(0))
        except (OSError, ValueError, TypeError):
            return True  # nothing that could block

    def flush(self) -> None:
        """Flush, if there is anything to flush to."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


_LOGFMT = structlog.processors.LogfmtRenderer(key_order=["event", "session"], drop_missing=True)


def _with_priority(logger: Any, name: str, event: structlog.typing.EventDict) -> str:
    priority = _PRIORITY.get(event.pop("level", "info"), 6)
    flat = {
        key: value if isinstance(value, int | float | bool) or value is None else _printable(str(value))
        for key, value in event.items()
    }
    return f"<{priority}>{_LOGFMT(logger, name, flat)}"


def _printable(text: str) -> str:
    """File names may hold what would forge a line or act on the terminal of whoever reads the journal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _removed(secrets: Secrets, value: Any) -> Any:
    if isinstance(value, str):
        return secrets.removed(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return secrets.removed(str(value))


def _under_journald() -> bool:
    stream = os.environ.get("JOURNAL_STREAM")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"
