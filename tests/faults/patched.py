"""The daemon with one thing changed: python -m tests.faults.patched CHANGE... -- PROGRAM -m MODULE run ..."""

# ruff: noqa: PLC0415 - each change imports what it changes
from __future__ import annotations

import sys


def look_back() -> None:
    """Look back often, not every five minutes."""
    from nexusd.bridge import poller

    poller.LOOK_BACK = poller.SOONEST = 0.3


def doubt() -> None:
    """Believe sooner that a session is over: in seconds, not in half a minute and an hour."""
    from nexusd.bridge import ending, expiry

    expiry.BELIEVED_AFTER, ending.ASKED_EVERY, ending.ASKED = 1.0, 0.5, 3


CHANGES = {"look_back": look_back, "doubt": doubt}


def main() -> None:
    end = sys.argv.index("--")
    for name in sys.argv[1:end]:
        CHANGES[name]()
    sys.argv = [sys.argv[end + 3], *sys.argv[end + 4 :]]
    from nexusd.cli.nexusd import main as run

    sys.exit(run())


def prefix(*names: str) -> tuple[str, ...]:
    """For `Daemon.start`."""
    return (sys.executable, "-m", "tests.faults.patched", *names, "--")


if __name__ == "__main__":
    main()
