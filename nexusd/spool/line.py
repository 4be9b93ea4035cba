"""One line of an inbox: written so that no peer can forge a field, read back without trusting it."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexusd import jsontext

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = ("kind", "seq", "session", "receivedAt")
RAW_SHOWN = 65_536  # bytes of an undecodable message that its line shows
NOTICES = ("gap", "expired", "lapsing", "evicted", "rejoined", "left", "bounced", "stopped")
_RESTARTED = re.compile(r"gap-restart-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to become a line: everything but its number and time. `cursor` is None for notices."""

    kind: str
    fields: Mapping[str, bytes]
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of ours, read back."""

    seq: int
    cursor: int | None
    fields: jsontext.Fields


def message(fields: Mapping[str, bytes], cursor: int | None, agent_id: str | None) -> Entry:
    """A peer's message with every field the server gave, unchanged; those named like ours move under `server`."""
    kept = {name: value for name, value in fields.items() if name not in OURS and name != "server"}
    taken = {name: value for name, value in fields.items() if name in OURS or name == "server"}
    if taken:
        kept["server"] = _object(taken)
    return Entry("system" if agent_id == "system" and cursor == 0 else "message", kept, cursor)


def undecodable(raw: bytes, cursor: int | None) -> Entry:
    """A message that could not be decoded, or is too large: a string, cut, with the digest of the whole."""
    shown = raw[:RAW_SHOWN].decode(errors="replace")
    fields = {
        "cursor": jsontext.quoted(str(cursor)) if cursor is not None else b"null",
        "raw": jsontext.quoted(shown),
        "sha256": jsontext.quoted(hashlib.sha256(raw).hexdigest()),
        "bytes": str(len(raw)).encode(),
    }
    return Entry("message", fields, cursor)


def identity(fields: Mapping[str, bytes]) -> str:
    """What makes a message itself. Cursors and ids may repeat after a server's restart, `expiresAt` may slide."""
    digest = hashlib.sha256()
    for name in ("id", "cursor", "agentId", "text", "json", "sentAt", "sha256"):
        digest.update(fields.get(name, b"-") + b"\n")
    return digest.hexdigest()[:32]


def notice(what: str, identity: str, text: str, **more: str | int | None) -> Entry:
    """Something the agent must know; `identity` is the same each time it is said."""
    if what not in NOTICES:
        raise ValueError(what)
    fields = {"notice": what, "id": identity, "text": text, **more}
    return Entry(
        "notice", {name: jsontext.escaped(json.dumps(v)).encode() for name, v in fields.items() if v is not None}
    )


def restart(epoch: int, text: str) -> Entry:
    """The notice that the server restarted: what follows is of its life number `epoch`."""
    return notice("gap", f"gap-restart-{epoch}", text)


def restart_told(found: Line) -> int | None:
    """The life that such a notice begins; None for any other line."""
    named = _RESTARTED.fullmatch(jsontext.string(found.fields.get("id")) or "")
    return int(named[1]) if named and jsontext.string(found.fields.get("kind")) == "notice" else None


def render(entry: Entry, *, seq: int, session: str, received_at: str) -> bytes:
    """The line, ending in its one newline."""
    ours = {
        "kind": jsontext.quoted(entry.kind),
        "seq": str(seq).encode(),
        "session": jsontext.quoted(session),
        "receivedAt": jsontext.quoted(received_at),
    }
    return _object({**ours, **entry.fields}) + b"\n"


def parse(line: bytes, session: str) -> Line | None:
    """A line of ours, or None for anything else: somebody's own line is left alone and not counted."""
    try:
        fields = jsontext.fields(line)
    except ValueError:
        return None
    seq = fields.get("seq", b"")
    if not seq.isdigit() or len(seq) > 18 or jsontext.string(fields.get("session")) != session or "kind" not in fields:
        return None
    cursor = (fields.get("cursor") or b"").strip(b'"')
    return Line(int(seq), int(cursor) if cursor.isdigit() and len(cursor) <= 30 else None, fields)


_short = functools.lru_cache(256)(jsontext.quoted)  # the same dozen names in every line


def _object(fields: Mapping[str, bytes]) -> bytes:
    names = (_short(name) if len(name) < 32 else jsontext.quoted(name) for name in fields)
    return b"{" + b",".join(name + b":" + value for name, value in zip(names, fields.values(), strict=True)) + b"}"
