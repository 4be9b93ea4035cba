"""What can go wrong, as one tree.

NexusError
├── UserError            something a person can mend; the message says where, what and what to do (exit 1 or 2)
│   ├── ConfigError      every fault of a configuration at once (exit 78)
│   └── RootLocked       another daemon holds the root (exit 75)
├── RequestError         a call to the server that did not succeed; its `fate` says what that means for the caller
└── Refusal              a dropped file that will never be sent as it is; why, and what to do
"""

from __future__ import annotations

import enum


class NexusError(Exception):
    """Base of all errors that nexusd raises on purpose."""


class UserError(NexusError):
    """Something a person can mend.

    `code` is the machine's word for it (stdout), the message is the person's sentence (stderr).
    """

    exit_status = 1

    def __init__(self, code: str, message: str, *, exit_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        if exit_status is not None:
            self.exit_status = exit_status


class ConfigError(UserError):
    """All faults of a configuration; each names file, table, key and what would be right."""

    exit_status = 78

    def __init__(self, faults: list[str]) -> None:
        super().__init__("bad_config", "\n".join(faults))
        self.faults = faults


class RootLocked(UserError):
    """Another daemon holds the root; the message names its pid."""

    exit_status = 75

    def __init__(self, message: str) -> None:
        super().__init__("root_locked", message)


class Fate(enum.Enum):
    """What became of a request that did not succeed."""

    NOT_SENT = "not_sent"  # the server did not take it: repeat it later, nothing can double
    REFUSED = "refused"  # the server took notice and said no: repeating it as it is will not help
    GONE = "gone"  # the session is not there (believed only when heard twice, 30 s apart)
    WAIT = "wait"  # too much at the moment: not taken, repeat after `retry_after`
    MAYBE_SENT = "maybe_sent"  # it may have been acted on: look before repeating it


class RequestError(NexusError):
    """A call that did not succeed.

    `status` is the HTTP status or None where no answer was read, `code` the protocol's error code or our own word,
    `retry_after` seconds or None, `body` the server's error object where it sent one. No secret is in any of them.
    """

    def __init__(
        self,
        fate: Fate,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        body: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.fate = fate
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.body = body


class Refusal(NexusError):
    """A dropped file that will never be sent as it is."""

    def __init__(self, code: str, message: str, remedy: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy
        self.status = status
