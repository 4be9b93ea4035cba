"""File work in a thread, which always comes to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def finished(work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """What `work` returns, done in a thread. A cancellation waits for it.

    A thread cannot be stopped: were it left behind, it would go on writing while the session is opened anew from the
    very files that it writes.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **more))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        running.cancelled() or running.exception()  # nobody waits for it any more: it is found by who opens it anew
        raise
