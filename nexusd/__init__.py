"""nexusd: talk to another agent across the internet by reading and writing files.

What a program may import from here, beside the two programs `nexusd` and `nexus`:

- `Inbox(folder)` reads the inbox that a daemon fills, at any time, and `Line` is one line of it;
- `drop(folder, text)` sends through a daemon's outbox, and the `Drop` that it returns knows what became of it;
- `NexusClient(server)` speaks with a server itself, asynchronously, without any daemon;
- `RequestError` and its `Fate`, `UserError`: what they raise.

>>> import nexusd
>>> dropped = nexusd.drop(FOLDER, "Which branch shall I use?")
>>> dropped.settled(timeout=30)
True
>>> inbox = nexusd.Inbox(FOLDER)
>>> for line in inbox.after(0):
...     print(line.seq, line.value["agentId"], line.value["text"])
1 bob Use main.

Nothing of it is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexusd.errors import Fate, RequestError, UserError
    from nexusd.spool.dropping import Drop, drop
    from nexusd.spool.reading import Inbox, Line
    from nexusd.wire.client import NexusClient

__version__ = "0.1.0"
__all__ = ["Drop", "Fate", "Inbox", "Line", "NexusClient", "RequestError", "UserError", "__version__", "drop"]

_HOMES = {
    "Drop": "spool.dropping",
    "Fate": "errors",
    "Inbox": "spool.reading",
    "Line": "spool.reading",
    "NexusClient": "wire.client",
    "RequestError": "errors",
    "UserError": "errors",
    "drop": "spool.dropping",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the hand commands must not wait for what they do not use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - not for who only asks for the version

    found = getattr(import_module(f"nexusd.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
