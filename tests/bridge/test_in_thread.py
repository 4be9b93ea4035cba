"""File work in a thread: a cancellation waits for it, and leaves nothing behind that somebody has to hear of."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from nexusd.bridge.in_thread import finished


@pytest.mark.parametrize("fails", [True, False])
def test_what_is_cancelled_comes_to_its_end_and_its_fault_is_nobodys(fails):
    told, done, go = [], [], threading.Event()

    def work():
        go.wait(10)
        done.append(True)
        if fails:
            raise OSError(5, "the folder is another one")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        task = asyncio.ensure_future(finished(work))
        await asyncio.sleep(0)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()

    asyncio.run(main())
    assert (done, told) == ([True], [])
