"""Every key of the configuration: its type, its default, where it may stand, and what it is for.

The records, the checks and the example file all follow from this table.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexusd.config.values import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable

_AGENT = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `parse` takes the TOML value and the folder that relative paths count from.

    Its ValueError says what would be right, to stand behind "must be". `session`: whether a session may have its own.
    """

    name: str
    parse: Callable[[Any, str], Any]
    default: Any
    session: bool
    help: str


def _text(value: Any, _: str) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a string in quotes")
    return value


def _flag(value: Any, _: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - one error for all faults of a value
    return value


def _agent(value: Any, where: str) -> str:
    if not _AGENT.fullmatch(_text(value, where)) or value == "system":
        raise ValueError("1 to 128 of A-Z a-z 0-9 _ -, and not system")
    return str(value)


def _server(value: Any, where: str) -> str:
    parts = urlsplit(_text(value, where))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('a server URL, for example "https://messaging.md"')
    return str(value).rstrip("/")


def _proxy(value: Any, where: str) -> str:
    parts = urlsplit(_text(value, where))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('a URL like "http://proxy.example:3128"')
    return str(value)


def _path(value: Any, where: str) -> str:
    return os.path.abspath(os.path.join(where, os.path.expanduser(_text(value, where))))


def _span(low: float, high: float = 10 * 365 * 86400.0) -> Callable[[Any, str], float]:
    def parse(value: Any, _: str) -> float:
        seconds = duration(value)
        if not low <= seconds <= high:
            raise ValueError(f"a duration from {_said(low)} to {_said(high)}")
        return seconds

    return parse


def _span_or(*words: str) -> Callable[[Any, str], float | str]:
    def parse(value: Any, _: str) -> float | str:
        try:
            return value if value in words else duration(value)
        except ValueError as fault:
            raise ValueError(f"{fault}, or {' or '.join(map(repr, words))}") from None

    return parse


def _size(low: int, high: int) -> Callable[[Any, str], int]:
    def parse(value: Any, _: str) -> int:
        number = size(value)
        if not low <= number <= high:
            raise ValueError(f"a size from {low} to {high} bytes")
        return number

    return parse


def _number(low: int, high: int) -> Callable[[Any, str], int]:
    def parse(value: Any, _: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _one_of(*words: str) -> Callable[[Any, str], str]:
    def parse(value: Any, _: str) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return parse


def _command(value: Any, _: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise ValueError('a list of words, for example ["/usr/local/bin/wake-agent"]')
    return tuple(value)


def _said(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


KEYS = (
    Key("server", _server, "https://messaging.md", False, "The server for new sessions; a session stays on its own."),
    Key("agent_id", _agent, None, True, "Who you are. Without it `nexusd add` makes HOSTNAME-xxxxxx and records it."),
    Key("root", _path, "~/nexus", False, "The folder that holds a folder for each session."),
    Key("client_dir", _path, "~/.config/messaging", False, "Where session ids and keys are kept, as other clients do."),
    Key("poll_interval", _span(0.05, 86400), "30s", True, "How often a quiet session is asked for messages."),
    Key("active_poll_interval", _span(0.05, 86400), "3s", True, "The same just after a message, easing back."),
    Key("renew_for", _span_or("always"), "7d", True, 'Renew until this long after the last message; "0": never.'),
    Key("ttl", _span(60, 30 * 86400.0), None, True, "The time to live to ask for when renewing; absent: as it is."),
    Key("settle", _span(0, 3600), "30s", True, "How long an unanswered message may still be on its way to the server."),
    Key("quiet", _span(0, 3600), "200ms", True, "How long a dropped file must be left unchanged before it is taken."),
    Key("on_ambiguous", _one_of("resend", "fail"), "resend", True, "What to do when nothing tells if it arrived."),
    Key("give_up_after", _span(1), "3d", True, "How long a file waits for a server before it goes to failed/."),
    Key("max_message_bytes", _size(1, 64 << 20), "256KiB", True, "The largest file that is sent."),
    Key(
        "secret_guard",
        _one_of("hold", "warn", "off"),
        None,
        True,
        "A file that seems to hold a secret: hold it, warn, or off. Absent: hold, with the extra `secrets` installed.",
    ),
    Key("inbox_max_bytes", _size(4096, 1 << 40), "64MiB", True, "An inbox of this size is put aside, a new one begun."),
    Key("inbox_own", _flag, False, True, "Whether your own messages are written to the inbox too."),
    Key("keep_inbox", _span_or("always"), "always", True, "How long parts of the inbox that were put aside are kept."),
    Key("keep_sent", _span_or("always"), "30d", True, "How long sent files and their receipts are kept."),
    Key("keep_failed", _span_or("always"), "always", True, "How long failed files and their reasons are kept."),
    Key("on_message", _command, (), True, "A program to run for each batch: JSON lines on its standard input."),
    Key("hook_timeout", _span(0.1, 86400), "60s", True, "How long that program may run."),
    Key(
        "requests_per_minute", _number(0, 1_000_000), 90, False, "For each server, all sessions together; 0: no limit."
    ),
    Key(
        "transport",
        _one_of("httpx", "aiohttp"),
        None,
        False,
        "What carries the polls. Absent: aiohttp with the extra `fast` installed, else httpx.",
    ),
    Key("proxy", _proxy, None, False, "An HTTP proxy to go through; the environment is not asked."),
    Key("ca_file", _path, None, False, "A file of certificate authorities to trust instead of the usual ones."),
    Key("allow_insecure", _flag, False, False, "Whether http:// may be used beyond this machine; ids go unencrypted."),
    Key("metrics_file", _path, None, False, "A Prometheus text file to keep up to date (extra: metrics)."),
    Key("log_level", _one_of("debug", "info", "warning", "error"), "info", False, "How much to log, on stderr."),
    Key("log_format", _one_of("auto", "console", "logfmt", "json"), "auto", False, "auto: as fits where stderr goes."),
)
"""In the order of the example file. Defaults are as a person would write them."""

BY_NAME = {key.name: key for key in KEYS}
