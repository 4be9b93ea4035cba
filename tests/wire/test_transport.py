"""Connections to servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import logging
import shutil
import socket
import ssl
import subprocess

import aiohttp
import httpx
import pytest

from nexusd.errors import Fate, RequestError
from nexusd.wire import calls, pool, transport
from nexusd.wire.transport import Transport
from tests.wire.raw import RawServer, ok

pytestmark = pytest.mark.anyio

SESSION, KEY = "5e" * 24, "k" * 64
GET, POST = calls.poll(SESSION, "me"), calls.send(SESSION, "me", KEY, text="hi")
RENEW, LEAVE = calls.renew(SESSION, "me"), calls.leave(SESSION, "me", KEY)
LIMIT = 1 << 20


@contextlib.asynccontextmanager
async def transport_to(server: RawServer | str, **more):
    carrying = Transport(server if isinstance(server, str) else server.url, **more)
    try:
        yield carrying
    finally:
        await carrying.close()


@pytest.fixture(params=[False, True], ids=["httpx", "aiohttp"])
def carrier(request):
    """Makes transports, with and without the extra `fast`."""
    return functools.partial(transport_to, fast=request.param)


def closings(pools) -> list[bool]:
    """Grows by one each time these pools are closed."""
    closed, close = [], pools.close

    async def closing() -> None:
        closed.append(True)
        await close()

    pools.close = closing
    return closed


async def fault_of(carrying: Transport, call: calls.Call, **more) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await carrying.carry(call, limit=LIMIT, **more)
    assert SESSION not in str(caught.value)
    assert KEY not in str(caught.value)
    return caught.value


async def test_an_answer_comes_whole_with_header_names_in_lower_case(carrier):
    async with RawServer([ok(b'{"a":1}', "X-Thing: Yes")]) as server, carrier(server) as carrying:
        answer = await carrying.carry(GET, limit=LIMIT)
        assert (answer.status, answer.body, answer.headers["x-thing"], answer.cut) == (200, b'{"a":1}', "Yes", False)
        head = server.requests[0][0].lower()
        assert b"accept-encoding: identity\r\n" in head
        assert b"user-agent: nexusd/" in head


async def test_an_error_status_is_an_answer_too(carrier):
    async with RawServer([b"HTTP/1.1 500 no\r\nContent-Length: 1\r\n\r\nx"]) as server, carrier(server) as carrying:
        assert (await carrying.carry(POST, limit=LIMIT)).status == 500
        assert len(server.requests) == 1


@pytest.mark.parametrize("call", [GET, POST])
async def test_a_server_that_does_not_listen_was_certainly_not_asked(carrier, call):
    async with RawServer([ok()]) as server:
        pass
    async with carrier(server) as carrying:
        fault = await fault_of(carrying, call)
        assert (fault.fate, fault.code) == (Fate.NOT_SENT, "server_unreachable")


async def test_a_name_that_does_not_exist_was_certainly_not_asked(carrier):
    async with carrier("http://nowhere.invalid") as carrying:
        assert (await fault_of(carrying, POST)).fate is Fate.NOT_SENT


async def test_case_59_an_address_that_swallows_everything_holds_no_other_one_up(carrier, monkeypatch):
    """Of a name's two addresses the first never answers, as IPv6 does behind many a broken router."""
    async with RawServer([ok()]) as server:
        hole = socket.socket()
        hole.bind(("127.0.0.2", server.port))
        hole.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:  # its queue is full: from now on connecting there hangs
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", server.port))
        real = socket.getaddrinfo

        def addresses(host, *given, **more):
            if host not in ("two.localhost", b"two.localhost"):
                return real(host, *given, **more)
            return [(2, 1, 6, "", (place, server.port)) for place in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        async with carrier(f"http://two.localhost:{server.port}", deadline=5.0) as carrying:
            for call in (GET, POST):
                assert (await carrying.carry(call, limit=LIMIT)).status == 200
        async with carrier(f"http://127.0.0.2:{server.port}") as carrying:  # the control: it does hang
            monkeypatch.setattr(pool, "CONNECT", 0.2)
            assert (await fault_of(carrying, POST)).fate is Fate.NOT_SENT
        for end in (hole, *fillers):
            end.close()


def certified(folder, name, days):
    """A key and its own certificate for an address, for so many days."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: NO CERTIFICATE WAS TRIED")
    key, wanted, certificate = folder / "key.pem", folder / "wanted.pem", folder / "certificate.pem"
    new = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    new += ["-subj", "/CN=x", "-addext", f"subjectAltName=IP:{name}", "-keyout", key, "-out", wanted]
    sign = ["openssl", "x509", "-req", "-in", wanted, "-signkey", key, "-days", str(days), "-copy_extensions", "copy"]
    for command in (new, [*sign, "-out", certificate]):
        subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@pytest.mark.parametrize(
    ("name", "days", "trusted", "reason"),
    [
        ("127.0.0.1", 2, True, None),
        ("127.0.0.1", 2, False, "self-signed"),
        ("127.0.0.9", 2, True, "mismatch"),
        ("127.0.0.1", -1, True, "expired"),
    ],
    ids=["right", "unknown", "another_host", "expired"],
)
async def test_case_28_a_certificate_that_is_not_right_means_that_nothing_was_sent(
    carrier, tmp_path, name, days, trusted, reason
):
    key, certificate = certified(tmp_path, name, days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    heard = []

    async def answered(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ok())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answered, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with carrier(url, ca_file=str(certificate) if trusted else None) as carrying:
            for call in (GET, POST):
                if reason is None:
                    assert (await carrying.carry(call, limit=LIMIT)).status == 200
                else:
                    fault = await fault_of(carrying, call)
                    assert fault.fate is Fate.NOT_SENT
                    assert reason in str(fault)
                    assert heard == []


async def test_case_28_nothing_is_sent_before_tls_stands(carrier):
    async with RawServer([ok()]) as server, carrier(server.url.replace("http:", "https:"), deadline=0.2) as carrying:
        await fault_of(carrying, POST)
        assert server.requests == [[]]  # nothing of the request came through


@pytest.mark.parametrize("call", [POST, RENEW, LEAVE])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 201 Created\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n{}",
    ],
)
async def test_a_connection_dropped_behind_the_request_leaves_open_what_became_of_it(carrier, call, answer):
    async with RawServer([answer]) as server, carrier(server) as carrying:
        fault = await fault_of(carrying, call)
        assert (fault.fate, fault.code) == (Fate.MAYBE_SENT, "answer_lost")
        assert [len(requests) for requests in server.requests] == [1]  # it was not repeated


async def test_a_get_whose_answer_was_lost_is_repeated_once_and_no_more(carrier):
    async with RawServer([b""], [ok()]) as server, carrier(server) as carrying:
        assert (await carrying.carry(GET, limit=LIMIT)).status == 200
    async with RawServer([b""]) as server, carrier(server) as carrying:
        assert (await fault_of(carrying, GET)).code == "answer_lost"
        assert len(server.requests) == 2


async def test_a_kept_connection_that_is_closed_under_a_get_is_replaced_without_a_word(carrier):
    async with RawServer([ok(), b""], [ok()]) as server, carrier(server) as carrying:
        for _ in range(2):
            assert (await carrying.carry(GET, limit=LIMIT)).status == 200
        assert [len(requests) for requests in server.requests] == [2, 1]


async def test_gets_share_a_connection_and_nothing_else_does(carrier):
    async with RawServer([ok()] * 9) as server, carrier(server) as carrying:
        for call in (GET, GET, POST, RENEW, POST, GET, LEAVE):
            await carrying.carry(call, limit=LIMIT)
        lines = [[request.partition(b" ")[0] for request in requests] for requests in server.requests]
        assert lines == [[b"GET"] * 3, [b"POST"], [b"POST"], [b"POST"], [b"DELETE"]]


async def test_the_control_for_it_shows_a_post_on_a_kept_connection(carrier, monkeypatch):
    monkeypatch.setattr(calls.Call, "idempotent", True)
    async with RawServer([ok()] * 9) as server, carrier(server) as carrying:
        for call in (GET, POST):
            await carrying.carry(call, limit=LIMIT)
        assert [len(requests) for requests in server.requests] == [2]


@pytest.mark.parametrize("call", [GET, POST])
async def test_the_deadline_is_for_the_whole_request_however_it_drips(carrier, call):
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with RawServer([drip]) as server, carrier(server, deadline=0.2) as carrying:
        fault = await fault_of(carrying, call)
        assert (fault.fate, fault.code) == (Fate.MAYBE_SENT, "timeout")
        assert len(server.requests) == 1  # not even a GET is repeated: a second deadline would pass


async def test_interim_answers_without_end_are_within_the_deadline(carrier):
    async def flood(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    async with RawServer([flood]) as server, carrier(server, deadline=0.2) as carrying:
        assert (await fault_of(carrying, POST)).fate is Fate.MAYBE_SENT


async def test_time_that_the_server_was_asked_to_wait_is_not_part_of_the_deadline(carrier):
    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(ok())
        await writer.drain()

    async with RawServer([late]) as server, carrier(server, deadline=0.1) as carrying:
        assert (await carrying.carry(GET, limit=LIMIT, wait=30)).status == 200


async def test_a_body_without_end_is_cut_at_the_limit_and_the_connection_is_dropped(carrier):
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    async with RawServer([endless, ok()], [ok()]) as server, carrier(server) as carrying:
        answer = await carrying.carry(GET, limit=5000)
        assert (answer.cut, answer.body) == (True, b"x" * 5000)
        assert (await carrying.carry(GET, limit=LIMIT)).body == b"{}"
        assert len(server.requests) == 2


async def test_a_body_of_just_the_limit_is_whole(carrier):
    async with RawServer([ok(b"x" * 100)]) as server, carrier(server) as carrying:
        answer = await carrying.carry(GET, limit=100)
        assert (answer.cut, len(answer.body)) == (False, 100)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_bomb_is_never_unpacked(carrier, coding):
    bomb = gzip.compress(b"\0" * 10_000_000)
    async with RawServer([ok(bomb, f"Content-Encoding: {coding}")]) as server, carrier(server) as carrying:
        answer = await carrying.carry(GET, limit=LIMIT)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("coding", ["identity", ""])
async def test_no_coding_at_all_is_fine(carrier, coding):
    async with RawServer([ok(b"[]", f"Content-Encoding: {coding}")]) as server, carrier(server) as carrying:
        assert (await carrying.carry(GET, limit=LIMIT)).body == b"[]"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_so_neither_path_nor_key_reach_another_server(carrier, status):
    async with RawServer([ok()]) as other:
        target = f"Location: {other.url}/v1/sessions/{SESSION}/messages"
        moved = f"HTTP/1.1 {status} moved\r\n{target}\r\nContent-Length: 0\r\n\r\n".encode()
        async with RawServer([moved, moved]) as server, carrier(server) as carrying:
            for call in (GET, POST):
                assert (await carrying.carry(call, limit=LIMIT)).status == status
        assert other.requests == []


async def test_cookies_are_not_replayed(carrier):
    async with RawServer([ok(b"{}", "Set-Cookie: id=1; Path=/")] * 2) as server, carrier(server) as carrying:
        for _ in range(2):
            await carrying.carry(GET, limit=LIMIT)
        assert b"cookie:" not in server.requests[0][1].lower()


async def test_the_control_for_it_shows_cookies_of_a_library_as_it_comes():
    async with RawServer([ok(b"{}", "Set-Cookie: id=1; Path=/")] * 2) as server:
        async with httpx.AsyncClient() as client:
            for _ in range(2):
                await client.get(server.url)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            for _ in range(2):
                await session.get(server.url)
        assert [b"cookie:" in requests[1].lower() for requests in server.requests] == [True, True]


@pytest.fixture
def surroundings(monkeypatch):
    """An environment that names a proxy."""

    def name(proxy: RawServer) -> None:
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)

    return name


async def test_proxies_in_the_environment_are_not_asked(carrier, surroundings):
    async with RawServer([ok(b"proxied")]) as proxy, RawServer([ok(b"direct")]) as server:
        surroundings(proxy)
        async with carrier(server) as carrying:
            assert [(await carrying.carry(call, limit=LIMIT)).body for call in (GET, POST)] == [b"direct"] * 2


async def test_the_control_for_it_shows_the_environments_proxy_asked_by_a_library_as_it_comes(surroundings):
    async with RawServer([ok(b"proxied")]) as proxy, RawServer([ok(b"direct")]) as server:
        surroundings(proxy)
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.url)).content == b"proxied"
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(server.url) as answer:
            assert await answer.read() == b"proxied"


async def test_a_proxy_that_was_configured_is_asked(carrier):
    async with RawServer([ok(b"proxied")]) as proxy, carrier("http://relay.test", proxy=proxy.url) as carrying:
        assert (await carrying.carry(GET, limit=LIMIT)).body == b"proxied"
        assert proxy.requests[0][0].startswith(b"GET http://relay.test/v1/")


@pytest.mark.parametrize("protected", [True, False])
async def test_after_a_cancellation_the_pool_is_replaced_and_the_old_one_closed(carrier, protected, monkeypatch):
    if not protected:
        monkeypatch.setattr(Transport, "_retire", lambda *_: None)
    async with RawServer([None], [ok()]) as server, carrier(server) as carrying:
        before, closed = carrying._pools, closings(carrying._pools)
        under_way = asyncio.ensure_future(carrying.carry(GET, limit=LIMIT))
        await server.asked(1)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert (carrying._pools is not before) is protected
        assert closed == [True] * protected
        assert (await carrying.carry(GET, limit=LIMIT)).status == 200


async def test_a_retired_pool_lives_until_its_last_request_has_ended(carrier):
    release = asyncio.Event()

    async def held(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(ok(b"late"))
        await writer.drain()

    async with RawServer([held], [None], [ok()]) as server, carrier(server) as carrying:
        old, closed = carrying._pools, closings(carrying._pools)
        first = asyncio.ensure_future(carrying.carry(GET, limit=LIMIT))
        await server.asked(1)
        second = asyncio.ensure_future(carrying.carry(GET, limit=LIMIT))
        await server.asked(2)
        second.cancel()
        await asyncio.wait({second})
        assert carrying._pools is not old
        assert closed == []
        release.set()
        assert (await first).body == b"late"
        assert closed == [True]


@pytest.mark.parametrize(
    ("raised", "fate"),
    [
        (httpx.ConnectError, Fate.NOT_SENT),
        (httpx.ConnectTimeout, Fate.NOT_SENT),
        (httpx.ProxyError, Fate.NOT_SENT),
        (httpx.PoolTimeout, Fate.NOT_SENT),
        (httpx.LocalProtocolError, Fate.NOT_SENT),
        (httpx.UnsupportedProtocol, Fate.NOT_SENT),
        (httpx.InvalidURL, Fate.NOT_SENT),
        (httpx.ReadTimeout, Fate.MAYBE_SENT),
        (httpx.WriteTimeout, Fate.MAYBE_SENT),
        (httpx.ReadError, Fate.MAYBE_SENT),
        (httpx.WriteError, Fate.MAYBE_SENT),
        (httpx.CloseError, Fate.MAYBE_SENT),
        (httpx.RemoteProtocolError, Fate.MAYBE_SENT),
        (httpx.DecodingError, Fate.MAYBE_SENT),
    ],
)
async def test_every_error_of_the_library_has_a_fate_and_hides_the_secrets(raised, fate):
    def fail(_: httpx.Request) -> httpx.Response:
        raise raised(f"at /v1/sessions/{SESSION} with {KEY}")

    async with transport_to("http://relay.test", handler=httpx.MockTransport(fail)) as carrying:
        assert (await fault_of(carrying, POST)).fate is fate


async def test_no_more_than_a_few_requests_are_under_way_at_once_but_for_those_that_wait():
    gate, most, now = asyncio.Event(), 0, 0

    async def body():
        yield b"{}"

    async def count(_: httpx.Request) -> httpx.Response:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return httpx.Response(200, content=body())

    async with transport_to("http://relay.test", handler=httpx.MockTransport(count)) as carrying:
        short = [asyncio.ensure_future(carrying.carry(GET, limit=LIMIT)) for _ in range(20)]
        for _ in range(50):
            await asyncio.sleep(0)
        assert most == transport.IN_FLIGHT
        long = [asyncio.ensure_future(carrying.carry(GET, limit=LIMIT, wait=20)) for _ in range(5)]
        for _ in range(50):
            await asyncio.sleep(0)
        assert most == transport.IN_FLIGHT + 5
        gate.set()
        assert {answer.status for answer in await asyncio.gather(*short, *long)} == {200}


async def test_no_secret_is_logged_by_the_libraries(carrier, caplog):
    with caplog.at_level(logging.DEBUG):
        async with RawServer([ok()]) as server, carrier(server) as carrying:
            await carrying.carry(GET, limit=LIMIT)
            await carrying.carry(POST, limit=LIMIT)
    assert SESSION not in caplog.text
    assert KEY not in caplog.text


async def test_the_control_for_it_shows_the_session_in_the_log_of_a_library_as_it_comes(caplog):
    with caplog.at_level(logging.DEBUG):
        async with RawServer([ok()]) as server, httpx.AsyncClient() as client:
            await client.get(server.url + GET.path)
    assert SESSION in caplog.text


async def test_it_tells_that_a_connection_was_not_the_one_before(carrier):
    """A hint that a server may have restarted."""
    kept, closed = ok(), ok(b"{}", "Connection: close")
    async with RawServer([kept, closed, ok()]) as server, carrier(server) as carrying:
        await carrying.carry(GET, limit=LIMIT)
        first = carrying.opened
        await carrying.carry(GET, limit=LIMIT)
        assert carrying.opened == first
        await carrying.carry(GET, limit=LIMIT)
        assert carrying.opened == first + 1
