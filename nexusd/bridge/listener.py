"""What a session tells those who work for it."""

from __future__ import annotations


class Listener:
    """Does nothing by itself: whoever runs a session puts one of its own in its place."""

    def committed(self) -> None:
        """Lines were written to the inbox."""

    def activity(self) -> None:
        """A message went either way, or the session ended or goes on: poll sooner, renew again, look at the outbox."""

    def server_restarted(self) -> None:
        """What the server has must be read anew before anything is sent."""

    def shown_changed(self) -> None:
        """Something changed that is shown of all sessions together."""
