"""Words of a library that quote what it was given are never passed on."""

from __future__ import annotations

import asyncio

import pytest

from nexusd.errors import Fate, RequestError
from nexusd.wire import calls
from nexusd.wire.direct import Direct
from nexusd.wire.transport import Transport
from tests.wire.raw import RawServer

pytestmark = pytest.mark.anyio

SESSION, AGENT, KEY = "5e" * 24, "me", "k" * 40
SPLIT = f"{KEY[:20]}\n{KEY[20:]}"
UNWRITABLE = {
    "a key with a second line": calls.send(SESSION, AGENT, SPLIT, text="hi"),
    "a key with a CR": calls.leave(SESSION, AGENT, f"{KEY}\rx"),
    "a key that is not ASCII": calls.send(SESSION, AGENT, f"{KEY}\u20ac", text="hi"),
    "an agent with a second line": calls.renew(SESSION, "agent-of-mine\nX-Other: 1"),
    "a path with a control character": calls.session("x")._replace(path=f"/v1/sessions/{SESSION}\x01"),
}


def hides_all(fault: RequestError) -> None:
    said = str(fault)
    for part in (KEY[:8], SESSION[:8], "agent-of-mine", "Illegal", "codec", "b'"):
        assert part not in said, said
    assert fault.__cause__ is None


@pytest.mark.parametrize("fast", [False, True], ids=["httpx", "aiohttp"])
@pytest.mark.parametrize("call", UNWRITABLE.values(), ids=UNWRITABLE.keys())
async def test_case_185_what_cannot_be_written_is_said_in_our_words_and_was_not_sent(call, fast):
    async with RawServer([None]) as server:
        carrying = Transport(server.url, fast=fast)
        with pytest.raises(RequestError) as caught:
            await carrying.carry(call, limit=1 << 20)
        await carrying.close()
        assert not any(server.requests)
    hides_all(caught.value)
    assert (caught.value.fate, caught.value.code) == (Fate.NOT_SENT, "server_unreachable")


@pytest.mark.parametrize("call", UNWRITABLE.values(), ids=UNWRITABLE.keys())
async def test_case_185_the_blocking_driver_says_it_in_our_words_too(call):
    async with RawServer([None]) as server:
        with pytest.raises(RequestError) as caught:
            await asyncio.to_thread(Direct(server.url).ask, call)
    hides_all(caught.value)
    assert (caught.value.fate, caught.value.code) == (Fate.NOT_SENT, "server_unreachable")
    assert "local record" in str(caught.value)


@pytest.mark.parametrize("fast", [False, True], ids=["httpx", "aiohttp"])
async def test_case_185_a_server_that_echoes_what_it_was_sent_instead_of_http_is_not_quoted(fast):
    echo = f"GET /v1/sessions/{SESSION[:30]}\\n{SESSION[30:]} says hello\r\n\r\n".encode()
    async with RawServer([echo], [echo]) as server:
        carrying = Transport(server.url, fast=fast)
        with pytest.raises(RequestError) as caught:
            await carrying.carry(calls.poll(SESSION, AGENT), limit=1 << 20)
        await carrying.close()
    assert SESSION[:8] not in str(caught.value)
    assert "hello" not in str(caught.value)
    assert caught.value.fate is Fate.MAYBE_SENT


async def test_case_185_the_blocking_driver_does_not_quote_such_a_server_either():

    echo = f"GET /v1/sessions/{SESSION[:30]} says hello\r\n\r\n".encode()
    async with RawServer([echo]) as server:
        with pytest.raises(RequestError) as caught:
            await asyncio.to_thread(Direct(server.url).ask, calls.send(SESSION, AGENT, KEY, text="hi"))
    assert str(caught.value) == "what answered does not speak HTTP"
    assert caught.value.fate is Fate.MAYBE_SENT
