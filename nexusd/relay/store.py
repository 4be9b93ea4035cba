"""Sessions on disk: sqlite in the data folder, one commit a change, so that kill -9 loses nothing that was answered."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from nexusd.relay.session import Member, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "relay.sqlite3"
VERSION = 1
_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, ttl INTEGER NOT NULL, max_agents INTEGER NOT NULL, created_at REAL NOT NULL,
    expires_at REAL NOT NULL, greeting TEXT, creator TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE agents (
    session_id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, agent_id TEXT NOT NULL,
    key_digest BLOB NOT NULL, joined_at REAL NOT NULL, PRIMARY KEY (session_id, agent_id)
) STRICT, WITHOUT ROWID;
"""
_JOIN = "INSERT INTO agents VALUES (?, ?, ?, ?)"


class StoreError(Exception):
    """The data folder cannot be used: `code` for programs, the text says why and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Store:
    """The ledger of a relay with a data folder: sessions, agents and digests of keys, never messages or codes.

    The folder is made with mode 0700, the file with 0600; it belongs to one process at a time. What is committed
    survives the death of the process; after a power cut the last moments may be missing (`synchronous=NORMAL`).
    """

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, FILE)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            # Made here, not by sqlite, so that it is private from its first moment.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=0.2, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError("data_dir_not_writable", f"the data folder cannot be written: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError("data_dir_in_use", "another relay holds this data folder") from error
            raise StoreError("data_dir_not_usable", f"the data folder's {FILE} cannot be used: {error}") from error
        except StoreError:
            self._db.close()
            raise

    def close(self) -> None:
        """Let the data folder go."""
        self._db.close()

    def sessions(self) -> Iterator[Session]:
        """Everything written so far, without messages; an agent's `last_seen` is the moment it joined."""
        found: dict[str, Session] = {}
        for row in self._db.execute(
            "SELECT id, ttl, max_agents, created_at, expires_at, greeting, creator FROM sessions"
        ):
            session = Session(*row)
            found[session.id] = session
        for session_id, agent_id, digest, joined_at in self._db.execute("SELECT * FROM agents ORDER BY joined_at"):
            found[session_id].members[agent_id] = Member(digest, joined_at, joined_at)
        yield from found.values()

    def opened(self, session: Session) -> None:
        """A session was created, with its creator if it has one."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    session.id,
                    session.ttl,
                    session.max_agents,
                    session.created_at,
                    session.expires_at,
                    session.greeting,
                    session.creator,
                ),
            )
            for name, member in session.members.items():
                self._db.execute(_JOIN, (session.id, name, member.key_digest, member.joined_at))

    def joined(self, session_id: str, agent_id: str, member: Member) -> None:
        """An agent came in."""
        self._db.execute(_JOIN, (session_id, agent_id, member.key_digest, member.joined_at))

    def left(self, session_id: str, agent_ids: list[str]) -> None:
        """Agents left or were removed."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany(
                "DELETE FROM agents WHERE session_id = ? AND agent_id = ?", [(session_id, name) for name in agent_ids]
            )

    def renewed(self, session_id: str, ttl: int, expires_at: float) -> None:
        """The session lives until `expires_at`."""
        self._db.execute("UPDATE sessions SET ttl = ?, expires_at = ? WHERE id = ?", (ttl, expires_at, session_id))

    def ended(self, session_ids: list[str]) -> None:
        """Sessions are over."""
        with self._db:
            self._db.execute("BEGIN")
            self._db.executemany("DELETE FROM sessions WHERE id = ?", [(session_id,) for session_id in session_ids])

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
        elif version != VERSION:
            raise StoreError("data_dir_too_new", f"{FILE} was written by another version of nexusd ({version})")
        # A write, so that the lock is ours from now on.
        self._db.execute("DELETE FROM sessions WHERE id = ''")
