"""The blocking driver against sockets that behave as a test says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import pytest

from nexusd.errors import Fate, RequestError
from nexusd.wire import calls, direct
from nexusd.wire.direct import Direct, reason

SESSION = "5e" * 24
GET, POST = calls.session(SESSION), calls.send(SESSION, "me", "k" * 64, text="hi")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Accepts connections and answers each request on one with the next script; None hangs, b"" closes."""

    def __init__(self, *connections: list) -> None:
        self.connections = list(connections)
        self.requests: list[list[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for script in self.connections:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self.requests.append([])
            threading.Thread(target=self._talk, args=(connection, script, self.requests[-1]), daemon=True).start()

    def _talk(self, connection: socket.socket, script: list, requests: list[bytes]) -> None:
        for answer in script:
            data = b""
            while b"\r\n\r\n" not in data:
                block = connection.recv(65536)
                if not block:
                    return
                data += block
            requests.append(data)
            if answer is None:
                return
            if answer:
                connection.sendall(answer)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for connection in (*self._open, self._listener):
            connection.close()


@pytest.fixture
def serve():
    servers = []

    def start(*connections: list) -> Server:
        servers.append(Server(*connections))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def fault_of(client: Direct, call: calls.Call, **kwargs) -> RequestError:
    with pytest.raises(RequestError) as caught:
        client.ask(call, **kwargs)
    return caught.value


def test_an_answer_comes_whole_with_headers_in_lower_case(serve):
    server = serve(
        [b"HTTP/1.1 200 OK\r\nX-Thing: Yes\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"]
    )
    answer = Direct(server.url).ask(GET)
    assert (answer.status, answer.body, answer.headers["x-thing"], answer.cut) == (200, b"{}", "Yes", False)


def test_a_request_asks_for_nothing_compressed_and_carries_the_calls_headers(serve):
    server = serve([OK])
    Direct(server.url + "/prefix").ask(POST)
    head, _, _ = server.requests[0][0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == f"POST /prefix/v1/sessions/{SESSION}/messages HTTP/1.1".lower().encode()
    assert b"accept-encoding: identity" in lines
    assert lines.count(b"accept-encoding: identity") == 1
    assert b"x-session-key: " + b"k" * 64 in lines


def test_gets_share_a_connection_and_posts_do_not(serve):
    server = serve([OK, OK, OK], [OK], [OK])
    client = Direct(server.url)
    for call in (GET, GET, POST, POST, GET):
        client.ask(call)
    client.close()
    assert [len(requests) for requests in server.requests] == [3, 1, 1]


def test_a_kept_connection_that_was_closed_is_replaced_without_a_word(serve):
    server = serve([OK], [OK])
    client = Direct(server.url)
    client.ask(GET)
    assert client.ask(GET).status == 200
    assert [len(requests) for requests in server.requests] == [1, 1]


@pytest.mark.parametrize("call", [GET, POST])
def test_a_connection_closed_without_an_answer_leaves_it_open_what_became_of_the_request(serve, call):
    server = serve([b""])
    fault = fault_of(Direct(server.url), call)
    assert (fault.fate, fault.code, fault.status) == (Fate.MAYBE_SENT, "answer_lost", None)
    assert reason(fault) == "network"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n{}",
    ],
)
def test_an_answer_that_is_torn_or_no_http_is_a_lost_answer(serve, answer):
    fault = fault_of(Direct(serve([answer]).url), POST)
    assert (fault.fate, fault.code) == (Fate.MAYBE_SENT, "answer_lost")


@pytest.mark.parametrize(
    ("before", "fate"), [(None, Fate.MAYBE_SENT), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Fate.MAYBE_SENT)]
)
def test_the_deadline_is_for_the_whole_request(serve, before, fate):
    server = serve([before, None] if before else [None])
    fault = fault_of(Direct(server.url, deadline=0.2), GET)
    assert (fault.fate, reason(fault)) == (fate, "timeout" if before is None else reason(fault))


def test_what_is_given_up_after_the_deadline_was_too_slow_however_it_ends(serve, monkeypatch):
    """The thread may have ended before anybody looks: what it met then is our own giving up."""
    give_up = direct._Exchange.give_up

    def and_wait(work):
        give_up(work)
        threading.Thread.join(work, 10)

    monkeypatch.setattr(direct._Exchange, "give_up", and_wait)
    fault = fault_of(Direct(serve([None]).url, deadline=0.2), GET)
    assert (fault.fate, reason(fault)) == (Fate.MAYBE_SENT, "timeout")


def test_a_look_up_of_a_name_that_hangs_is_within_the_deadline(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20))
    fault = fault_of(Direct("http://slow.example", deadline=0.1), POST)
    release.set()
    assert (fault.fate, fault.code, reason(fault)) == (Fate.NOT_SENT, "timeout", "timeout")


def test_a_refused_connection_and_an_unknown_name_are_not_sent():
    fault = fault_of(Direct("http://127.0.0.1:1"), POST)
    assert (fault.fate, fault.code, reason(fault)) == (Fate.NOT_SENT, "server_unreachable", "refused")


def test_an_unknown_name_is_not_sent(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    fault = fault_of(Direct("https://no.example"), POST)
    assert (fault.fate, fault.code, reason(fault)) == (Fate.NOT_SENT, "server_unreachable", "dns")
    fault = fault_of(Direct("https://" + "x" * 70 + ".example"), POST)
    assert (fault.fate, reason(fault)) == (Fate.NOT_SENT, "dns")


def test_nothing_is_sent_before_tls_stands(serve):
    server = serve([None])
    fault = fault_of(Direct(server.url.replace("http:", "https:"), deadline=0.2), POST)
    assert fault.fate is Fate.NOT_SENT


def test_a_certificate_that_nobody_vouches_for_is_a_fault_of_tls():
    fault = RequestError(Fate.NOT_SENT, "server_unreachable", "")
    fault.__cause__ = ssl.SSLCertVerificationError(1, "self-signed")
    assert reason(fault) == "tls"


def test_a_body_is_read_up_to_the_limit_and_is_known_to_be_cut(serve):
    server = serve([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100])
    answer = Direct(server.url).ask(GET, limit=10)
    assert (answer.body, answer.cut) == (b"x" * 10, True)


def test_compressed_answers_are_not_read(serve):
    server = serve([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"])
    assert fault_of(Direct(server.url), GET).code == "non_json_response"


def test_redirects_are_not_followed(serve):
    server = serve([b"HTTP/1.1 307 no\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"])
    fault = fault_of(Direct(server.url), POST)
    assert (fault.fate, fault.status, reason(fault)) == (Fate.NOT_SENT, 307, "http")


def test_no_proxy_is_taken_from_the_environment(serve, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Direct(serve([OK]).url).ask(GET).status == 200


def test_no_error_holds_a_secret(serve):
    body = f'{{"error":"forbidden","message":"{SESSION} {"k" * 64}"}}'.encode()
    server = serve([b"HTTP/1.1 403 no\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)])
    fault = fault_of(Direct(server.url), POST)
    assert fault.code == "forbidden"
    assert SESSION not in f"{fault} {fault.body}"
    assert "k" * 64 not in f"{fault} {fault.body}"


def test_an_ipv6_address_without_a_port_keeps_its_end():
    client = direct.Direct("http://[::1]")
    assert (client._connection().host, client._connection().port) == ("::1", 80)
