"""A configuration that is in force: plain frozen facts. Durations in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for one session."""

    agent_id: str | None
    poll_interval: float
    active_poll_interval: float
    renew_for: float | Literal["always"]
    ttl: float | None
    settle: float
    quiet: float
    on_ambiguous: Literal["resend", "fail"]
    give_up_after: float
    max_message_bytes: int
    secret_guard: Literal["hold", "warn", "off"] | None
    inbox_max_bytes: int
    inbox_own: bool
    keep_inbox: float | Literal["always"]
    keep_sent: float | Literal["always"]
    keep_failed: float | Literal["always"]
    on_message: tuple[str, ...]
    hook_timeout: float

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From values of all keys."""
        return cls(**{f.name: values[f.name] for f in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """One session: a name of ours and an id that is a secret. `server` and `agent` only if its table names them."""

    name: str
    id: str = field(repr=False)
    server: str | None
    agent: str | None = None
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of it. `file` is None where no file was found: the defaults, and what `sessions.d` holds.

    `skipped`: files of `sessions.d` that are not served, by their sessions' names: which file, what is wrong with it,
    and the command that mends it. No name and no sentence holds a session id.
    """

    file: str | None
    sessions_folder: str
    server: str
    root: str
    client_dir: str
    requests_per_minute: int
    transport: Literal["httpx", "aiohttp"] | None
    proxy: str | None
    ca_file: str | None
    allow_insecure: bool
    metrics_file: str | None
    log_level: str
    log_format: str
    defaults: Settings
    sessions: tuple[SessionConfig, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
