"""The one way the relay says no."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A request that is answered with an error.

    `status` is the HTTP status, `code` the protocol's error code, `message` a sentence for people, `details` one
    sentence for each fault found, `retry_after` whole seconds to wait before asking again.
    """

    def __init__(
        self, status: int, code: str, message: str, details: tuple[str, ...] = (), *, retry_after: int | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.retry_after = retry_after

    def as_reply(self) -> dict[str, Any]:
        """The error object of the protocol: `{"error", "message"}`, with `details` where there are any."""
        reply: dict[str, Any] = {"error": self.code, "message": self.message}
        if self.details:
            reply["details"] = list(self.details)
        return reply
