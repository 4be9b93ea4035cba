"""The relay as a process of its own: real sockets, real signals, a real kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import nexusd

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(nexusd.__file__)))
ENVIRONMENT = {**os.environ, "PYTHONPATH": ROOT}


class Process:
    """A relay that listens; `url` is where."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "nexusd.relay.serve", "--port", "0", *arguments]
        self.popen = subprocess.Popen(
            command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.listening = json.loads(self.popen.stdout.readline())
        self.url = self.listening["url"]

    def __call__(self, method: str, path: str, *, agent=None, key=None, **more) -> httpx.Response:
        headers = {"X-Agent-Id": agent, "X-Session-Key": key}
        headers = {name: value for name, value in headers.items() if value}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=70) as client:
            return client.request(method, path, headers=headers, **more)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=30)
        return self.popen.returncode, out, err


@pytest.fixture
def start():
    started: list[Process] = []

    def start_it(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start_it
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def refused_to_start(*arguments: str) -> tuple[dict, str]:
    command = [sys.executable, "-m", "nexusd.relay.serve", *arguments]
    ended = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr
    return json.loads(ended.stdout), ended.stderr


def test_a_relay_says_where_it_listens_and_answers_there(start) -> None:
    relay = start()
    assert relay.listening == {"event": "listening", "url": relay.url}
    healthy = relay("GET", "/health")
    assert (healthy.status_code, healthy.json()["status"]) == (200, "ok")
    assert healthy.headers["date"]
    assert "server" not in healthy.headers


def test_a_conversation_over_real_sockets_leaves_no_secret_in_the_output(start) -> None:
    relay = start()
    created = relay("PUT", "/v1/sessions", json={"greeting": "hi", "creatorAgentId": "alice"}).json()
    path = f"/v1/sessions/{created['sessionId']}"
    paired = relay("PUT", "/v1/pair", json={"sessionId": created["sessionId"]}).json()
    assert paired["url"] == f"{relay.url}/p/{paired['code']}"
    claimed = relay("POST", f"/v1/pair/{paired['code']}/claim", agent="bob").json()
    sent = relay("POST", f"{path}/messages", agent="bob", key=claimed["sessionKey"], json={"text": "hello"})
    assert sent.status_code == 201
    heard = relay("GET", f"{path}/messages", agent="alice").json()
    assert [message["text"] for message in heard["messages"]] == ["hi", "hello"]
    assert relay("GET", f"{path}/nope").status_code == 404
    assert relay("POST", f"{path}/renew", agent="bob").status_code == 400
    status, out, err = relay.end()
    assert (status, out) == (0, "")
    for secret in (created["sessionId"], created["sessionKey"], claimed["sessionKey"], paired["code"]):
        assert secret not in err


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_curl_and_jq_are_enough_of_a_client(start) -> None:
    relay = start()
    script = """
    set -eu
    curl() { command curl -fsS --noproxy '*' "$@"; }
    S=$(curl -X PUT "$U/v1/sessions" -H 'Content-Type: application/json' -d '{}' | jq -re .sessionId)
    C=$(curl -X PUT "$U/v1/pair" -d "$(jq -n --arg s "$S" '{sessionId:$s}')" | jq -re .code)
    curl -L "$U/p/$C" | grep -q "nexus claim $C"
    K=$(curl -X POST "$U/v1/pair/$C/claim" -H 'X-Agent-Id: bob' | jq -re .sessionKey)
    curl -X POST "$U/v1/sessions/$S/messages" -H 'X-Agent-Id: bob' -H "X-Session-Key: $K" \
      -H 'Content-Type: application/json' -d '{"text":"hello"}' | jq -re .cursor
    curl "$U/v1/sessions/$S/messages" -H 'X-Agent-Id: bob' | jq -re '.messages[0].text, .nextCursor'
    curl -X POST "$U/v1/sessions/$S/renew" -H 'X-Agent-Id: bob' -d '{}' | jq -re .state
    curl -X DELETE "$U/v1/sessions/$S/agents/bob" -H 'X-Agent-Id: bob' -H "X-Session-Key: $K" | jq -re .ok
    """
    ran = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "U": relay.url},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.stdout.split() == ["1", "hello", "1", "active", "true"]


def test_sessions_survive_a_kill_and_messages_do_not(start, tmp_path) -> None:
    folder = str(tmp_path / "data")
    relay = start("--data-dir", folder)
    created = relay("PUT", "/v1/sessions", json={"creatorAgentId": "alice", "greeting": "welcome"}).json()
    path, key = f"/v1/sessions/{created['sessionId']}", created["sessionKey"]
    bob = relay("POST", f"{path}/join", agent="bob").json()["sessionKey"]
    relay("POST", f"{path}/messages", agent="bob", key=bob, json={"text": "lost"})
    relay("POST", f"{path}/renew", agent="bob", json={"ttl": 1234})
    described = relay("GET", path).json()
    assert relay.end(signal.SIGKILL)[0] == -signal.SIGKILL

    again = start("--data-dir", folder)
    assert again("GET", path).json() == described
    heard = again("GET", f"{path}/messages", agent="bob").json()
    assert [message["text"] for message in heard["messages"]] == ["welcome"]
    sent = again("POST", f"{path}/messages", agent="alice", key=key, json={"text": "first again"})
    assert (sent.status_code, sent.json()["cursor"]) == (201, "1")


def test_without_a_data_folder_nothing_survives(start) -> None:
    first = start()
    session_id = first("PUT", "/v1/sessions").json()["sessionId"]
    first.end()
    assert start()("GET", f"/v1/sessions/{session_id}").status_code == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_zero_and_answers_the_polls_held_open(start, number) -> None:
    relay = start("--rate-limit", "0")
    session_id = relay("PUT", "/v1/sessions", json={"creatorAgentId": "alice"}).json()["sessionId"]
    relay("POST", f"/v1/sessions/{session_id}/join", agent="bob")
    path = f"/v1/sessions/{session_id}/messages"

    def alice_last_seen() -> str:
        members = relay("GET", path, agent="bob", params={"members": "true"}).json()["members"]
        return next(member["lastSeenAt"] for member in members if member["agentId"] == "alice")

    before = alice_last_seen()
    host, port = relay.url.removeprefix("http://").split(":")
    with ThreadPoolExecutor() as threads, socket.create_connection((host, int(port))) as stuck:
        stuck.sendall(b"PUT /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        poll = threads.submit(relay, "GET", path, agent="alice", params={"wait": "60"})
        while alice_last_seen() == before:
            pass  # until the poll has arrived
        status, out, err = relay.end(number)
        assert (status, out) == (0, "")
        assert "Traceback" not in err
        assert poll.result().json() == {"messages": [], "nextCursor": "0"}


def test_a_port_in_use_is_said_in_one_sentence(start) -> None:
    port = start().url.rsplit(":", 1)[1]
    reply, sentence = refused_to_start("--port", port)
    assert reply["error"] == "address_in_use"
    assert port in reply["message"]
    assert "--port" in sentence


def test_a_host_that_is_none_is_said_in_one_sentence() -> None:
    reply, _ = refused_to_start("--host", "192.0.2.1", "--port", "0")
    assert reply["error"] == "address_not_usable"
    reply, _ = refused_to_start("--host", "no.such.host.invalid", "--port", "0")
    assert reply["error"] == "address_not_usable"
    reply, _ = refused_to_start("--port", "99999")
    assert reply["error"] == "address_not_usable"


def test_a_data_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    reply, _ = refused_to_start("--port", "0", "--data-dir", str(tmp_path / "file"))
    assert reply["error"] == "data_dir_not_writable"


def test_a_data_folder_belongs_to_one_relay_at_a_time(start, tmp_path) -> None:
    start("--data-dir", str(tmp_path))
    reply, _ = refused_to_start("--port", "0", "--data-dir", str(tmp_path))
    assert reply["error"] == "data_dir_in_use"


def test_the_rate_limit_of_the_command_line_holds(start) -> None:
    relay = start("--rate-limit", "3")
    answers = [relay("GET", "/health") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
