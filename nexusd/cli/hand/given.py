"""What was given on the command line or in the environment, checked; UserError says what would be right."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from nexusd.config.values import duration, size
from nexusd.errors import UserError

LARGEST = 16 << 20  # bytes of a text; far above what any server takes
_AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def agent_id(agent: str) -> str:
    """An agent id that the protocol allows."""
    if not _AGENT_ID.fullmatch(agent):
        raise UserError("bad_agent_id", "an agent id has 1 to 128 letters, digits, _ or -, and nothing else")
    return agent


def server(url: str) -> str:
    """A server's URL in the form we compare; without a scheme it is https, or http on this machine."""
    from nexusd.wire.address import is_loopback, server_url  # noqa: PLC0415 - a drop into an outbox needs no server

    if "://" not in url:
        host = url.partition("/")[0].rpartition(":")[0] or url.partition("/")[0]
        url = f"{'http' if is_loopback(host) else 'https'}://{url}"
    try:
        return server_url(url, allow_insecure=os.environ.get("NEXUS_ALLOW_INSECURE") == "1")
    except UserError as fault:
        if fault.code != "insecure_url":
            raise
        raise UserError(
            fault.code,
            "http:// would send session ids and keys unencrypted; use https://, or set NEXUS_ALLOW_INSECURE=1",
        ) from None


def limit(variable: str, otherwise: float) -> float:
    """A number of seconds from the environment."""
    try:
        value = float(os.environ.get(variable) or otherwise)
    except ValueError:
        return otherwise
    return value if 0 < value < 86_400 else otherwise


def wait(written: str | None, option: str) -> float | None:
    """Seconds from an option like `--timeout`: "500ms", "30s" or 0; None where it was not given."""
    if written is None:
        return None
    try:
        return duration(written)
    except ValueError as fault:
        raise UserError(f"bad_{option}", f"--{option} {written[:40]!r} cannot be used: it takes {fault}") from None


def whole_seconds(written: str, option: str) -> int:
    """Whole seconds from an option like `--ttl`: "3600" or "61m"."""
    value = wait(written, option)
    if value is None or value < 1 or value != int(value):
        raise UserError(f"bad_{option}", f"--{option} {written[:40]!r} cannot be used: it takes 1 second or more")
    return int(value)


def number(written: str | None, option: str) -> int | None:
    """A whole number from an option like `--limit`; None where it was not given."""
    if written is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", written):
        raise UserError(f"bad_{option.replace('-', '_')}", f"--{option} takes a whole number, not {written[:40]!r}")
    return int(written)


def amount(written: str | None, option: str) -> int | None:
    """Bytes from an option like `--max-bytes`; None where it was not given."""
    if written is None:
        return None
    try:
        return size(written)
    except ValueError as fault:
        raise UserError(f"bad_{option.replace('-', '_')}", f"--{option} takes {fault}, not {written[:40]!r}") from None


def payload(written: str) -> Any:
    """The JSON payload of `--json`."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(written, parse_constant=refuse)
        json.dumps(value, allow_nan=False)  # 1e999 is read as an infinity
    except (ValueError, RecursionError):
        raise UserError("bad_json", "the payload of --json is not JSON; put it in single quotes") from None
    if value is None:
        raise UserError("bad_json", "null is no payload for --json")
    return value


def text(words: list[str]) -> str | None:
    """The text of a message: the words, `-` for stdin, `@FILE` for a file (`@@` for a text that begins with @).

    One newline at the end of stdin or of a file is dropped, as the daemon does it. None without any words.
    """
    if not words:
        return None
    written = " ".join(words)
    if written == "-":
        return _decoded(sys.stdin.buffer.read(LARGEST + 1), "stdin").removesuffix("\n")
    if written.startswith("@@"):
        return _decoded(os.fsencode(written[1:]), "the text")
    path = written[1:]
    if written.startswith("@") and (os.path.isfile(path) or not re.search(r"\s", path)):
        try:
            with open(path, "rb") as file:
                return _decoded(file.read(LARGEST + 1), path[:200]).removesuffix("\n")
        except OSError as fault:
            raise UserError(
                "no_such_file",
                f"{path[:200]} cannot be read ({fault.strerror}); for a text that begins with @ write @@",
            ) from None
    return _decoded(os.fsencode(written), "the text")


def _decoded(data: bytes, source: str) -> str:
    if len(data) > LARGEST:
        raise UserError("too_large", f"{source} is larger than {LARGEST >> 20} MiB; send it in parts")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UserError("not_utf8", f"{source} is not UTF-8; convert it first, for example with iconv") from None
