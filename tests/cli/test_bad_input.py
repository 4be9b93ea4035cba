"""What bad input gets: an error on stdout, a sentence on stderr, never a traceback, never a half-written file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

UNKNOWN = "f" * 48


def failed(ran, code: str, status: int = 1) -> dict:
    assert ran.status == status, (ran.out, ran.err)
    assert ran.json["error"] == code
    assert ran.err.strip()
    return ran.json


@pytest.mark.parametrize("command", ["status", "pair", "renew", "poll", "send", "leave", "join", "alias", "bind"])
def test_an_unknown_alias_is_said_with_the_next_step(nexus, command):
    more = {"send": ["hi"], "alias": ["x"]}.get(command, [])
    ran = nexus(command, "nobody", *more, "--agent-id", "me")
    failed(ran, "session_not_found")
    assert "nexus ls" in ran.err


def test_a_mistyped_alias_gets_the_nearest_names(nexus, room):
    ran = nexus("poll", "roam")
    failed(ran, "session_not_found")
    assert "did you mean room?" in ran.err


@pytest.mark.parametrize("command", ["status", "pair", "renew", "poll", "send", "join", "bind"])
def test_an_unknown_session_id_gets_the_servers_error(nexus, command):
    more = ["hi"] if command == "send" else []
    failed(nexus(command, UNKNOWN, *more, "--agent-id", "me"), "session_not_found")
    assert not os.path.exists(nexus.path("sessions", UNKNOWN))


def test_an_alias_for_a_session_that_is_not_here_is_refused(nexus):
    failed(nexus("alias", UNKNOWN, "x"), "session_not_found")
    assert nexus.file("aliases.json") is None


def test_an_unknown_code_gets_the_servers_error(nexus):
    failed(nexus("claim", "NO-SUCH-CODE1", "--agent-id", "me"), "code_not_found")
    failed(nexus("pair-status", "NO-SUCH-CODE1"), "code_not_found")


def test_a_code_already_used_gets_the_servers_error(nexus, other, room):
    code = nexus("pair", "room").json["code"]
    assert other("claim", code, "--agent-id", "bob").status == 0
    ran = other("claim", code, "--agent-id", "carol")
    assert ran.status == 1
    assert ran.json["error"] in ("code_expired_or_used", "code_not_found")


@pytest.mark.parametrize("code", ["", "https://example.org/other/thing", "A/B", "http://[::1/p/X"])
def test_what_can_be_no_code_is_said_without_asking_the_server(nexus, code):
    failed(nexus("claim", code, "--agent-id", "me", NEXUS_URL="http://127.0.0.1:1"), "bad_code")


def test_a_full_session_and_an_id_taken_get_the_servers_errors(nexus, other, tmp_path):
    session = nexus("create", "--join-as", "alice", "--max-agents", "2").json["sessionId"]
    failed(other("join", session, "--agent-id", "alice"), "agent_id_taken")
    assert other("join", session, "--agent-id", "bob").status == 0
    third = type(nexus)(tmp_path / "third", nexus.server)
    failed(third("join", session, "--agent-id", "carol"), "session_full")
    assert nexus.file("sessions", session, "agent") == "alice\n"


def test_a_wrong_key_is_refused_and_kept_for_another_try(nexus, room):
    nexus.write("0" * 64 + "\n", "sessions", room, "key")
    failed(nexus("send", "room", "hi"), "invalid_session_key")
    ran = nexus("leave", "room")
    failed(ran, "invalid_session_key")
    assert "is not the right one" in ran.err
    assert nexus.file("sessions", room, "agent") == "alice\n"


def test_leaving_without_a_key_is_refused_before_the_server_is_asked(nexus, room):
    os.unlink(nexus.path("sessions", room, "key"))
    failed(nexus("leave", "room", "--url", "http://127.0.0.1:1"), "no_session_key")


@pytest.mark.parametrize("command", ["send", "poll", "renew", "leave", "heartbeat", "poll-daemon"])
def test_a_session_without_an_agent_id_says_how_to_get_one(nexus, command):
    session = nexus("create").json["sessionId"]
    ran = nexus(command, session, *(["hi"] if command == "send" else []))
    failed(ran, "missing_agent_id")
    assert "--agent-id" in ran.err


@pytest.mark.parametrize("command", [["join", UNKNOWN], ["claim", "A-B-C"], ["claim", "A-B-C", "--agent-id", ""]])
def test_entering_without_an_agent_id_is_an_error_on_stdout(nexus, command):
    failed(nexus(*command), "missing_agent_id")


@pytest.mark.parametrize("agent", ["a/b", "ä", "a b", "x" * 129, "a\nb"])
def test_an_agent_id_that_the_protocol_does_not_allow_is_refused(nexus, room, agent):
    failed(nexus("send", "room", "hi", "--agent-id", agent), "bad_agent_id")
    failed(nexus("join", room, "--agent-id", agent), "bad_agent_id")
    failed(nexus("create", "--join-as", agent), "bad_agent_id")


@pytest.mark.parametrize("ttl", ["banana", "-5", "0", "1.5", "nan", "1e3", "9" * 30])
def test_a_ttl_that_is_none_says_what_would_be_right(nexus, room, ttl):
    ran = nexus("create", f"--ttl={ttl}")
    failed(ran, "bad_ttl")
    assert "takes" in ran.err
    failed(nexus("renew", "room", f"--ttl={ttl}"), "bad_ttl")


@pytest.mark.parametrize("payload", ["{bad", "", "NaN", '{"a": 1e999}', "[" * 100_000, "null", "'x'"])
def test_a_payload_that_is_no_json_is_refused_before_anything_is_sent(nexus, room, payload):
    failed(nexus("send", "room", "--json", payload), "bad_json")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["send", "room"], "nothing_to_send"),
        (["send", "room", ""], "nothing_to_send"),
        (["send", "room", "@/no/such/file"], "no_such_file"),
        (["poll", "room", "--after", "x"], "bad_after"),
        (["poll", "room", "--after=-1"], "bad_after"),
        (["create", "--max-agents", "many"], "bad_max_agents"),
        (["alias", "room", "a/b"], "bad_alias"),
        (["unalias", "nothing"], "alias_not_found"),
        (["config", "set-url", "banana"], "bad_url"),
        (["config", "set-url", "ftp://x"], "bad_url"),
        (["config", "set-url", "https://"], "bad_url"),
        (["config", "set-url", "https://u:p@x"], "bad_url"),
        (["config", "set-url", "http://example.org"], "insecure_url"),
        (["config", "frob"], "usage"),
        (["status", "room", "--url", "https://a b"], "bad_url"),
        (["heartbeat", "room", "--interval", "soon"], "bad_interval"),
        (["send", "room", "hi", "--timeout", "soon"], "bad_timeout"),
        (["read", "room"], "no_inbox"),
        (["wait", "room"], "no_inbox"),
        (["ask", "room", "hi"], "no_inbox"),
        (["tail", "room"], "no_inbox"),
    ],
)
def test_each_fault_has_its_word_and_status_1(nexus, room, args, code):
    failed(nexus(*args), code)


@pytest.mark.parametrize(
    "args", [["frob"], ["send"], ["poll", "room", "--nope"], ["poll", "a", "b"], ["--nope"], ["create", "--ttl"]]
)
def test_only_a_wrong_usage_is_status_2(nexus, args):
    ran = nexus(*args)
    assert ran.status == 2
    assert ran.json["error"] in ("usage", "unknown_command")


def test_text_that_is_not_utf8_is_refused(nexus, room):
    failed(nexus("send", "room", "-", stdin=b"\xff\xfe"), "not_utf8")


@pytest.mark.parametrize("broken", ["{bad", "[]", "\x00\x01", "[" * 100_000, ""])
def test_corrupt_files_are_set_aside_said_and_gone_on_without(nexus, room, broken):
    nexus.write(broken, "aliases.json")
    nexus.write(broken, "config.json")
    ran = nexus("poll", room)
    assert ran.status == 0
    assert ran.json["messages"] == []
    assert nexus.file("aliases.json.broken") == broken
    assert nexus.file("config.json.broken") == broken
    assert "it is kept as" in ran.err


@pytest.mark.parametrize(
    "args",
    [
        ["create", "--join-as", "me"],
        ["join", UNKNOWN, "--agent-id", "me"],
        ["claim", "A-B-C", "--agent-id", "me"],
        ["config", "set-url", "https://x.example"],
    ],
)
def test_a_home_that_cannot_be_written_is_said_before_the_server_gives_anything_away(nexus, tmp_path, args):
    (tmp_path / "file").write_text("")
    ran = nexus(*args, NEXUS_CLIENT_DIR=str(tmp_path / "file" / "home"), NEXUS_URL="http://127.0.0.1:1")
    failed(ran, "local_files")


def test_no_error_shows_a_session_id_or_a_key(nexus, room):
    os.unlink(nexus.path("sessions", room, "agent"))
    os.mkdir(nexus.path("sessions", room, "agent"))
    ran = nexus("poll", "room")
    failed(ran, "local_files")
    assert room not in ran.out + ran.err


def test_a_server_that_is_not_there_is_said(nexus, room):
    failed(nexus("status", "room", "--url", "http://127.0.0.1:1"), "server_unreachable")
    failed(nexus("poll", "room", "--url", "https://no-such-host.invalid"), "server_unreachable")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"<html>welcome</html>", "non_json_response"),
        (200, b"[]", "non_json_response"),
        (200, b"", "non_json_response"),
        (502, b"<html>bad gateway</html>", "non_json_response"),
        (404, b"", "non_json_response"),
        (301, b"", "non_json_response"),
        (429, b"slow down", "rate_limit_exceeded"),
        (500, b'{"error": "internal_error", "message": "oops"}', "internal_error"),
        (412, b'{"error": "challenge"}', "challenge"),
    ],
)
def test_what_is_not_the_protocols_answer_is_an_error(nexus, room, answering, status, body, code):
    answering.answer(status, body, Location="http://127.0.0.1:1/")
    for args in (["status", "room"], ["poll", "room"], ["send", "room", "hi"]):
        failed(nexus(*args, "--url", answering.url), code)
    assert len(answering.asked) == 3
    assert nexus.file("sessions", room, "cursor") is None


def test_a_compressed_answer_is_refused(nexus, room, answering):
    answering.answer(200, b"{}", Content_Encoding="gzip")
    failed(nexus("status", "room", "--url", answering.url), "non_json_response")


def test_a_servers_words_cannot_move_the_cursor(nexus, room, answering):
    answering.answer(400, {"error": "bad", "message": "\x1b[2Jhello\u202e"})
    ran = nexus("status", "room", "--url", answering.url)
    assert "\x1b" not in ran.out + ran.err
    assert "\u202e" not in ran.out + ran.err


def test_a_closed_pipe_ends_quietly_and_moves_no_cursor(nexus, room):
    nexus("send", "room", "x" * 100_000)
    process = nexus.start("poll", "room")
    process.stdout.close()
    err = process.stderr.read()
    process.wait(20)
    assert process.returncode == 141
    assert b"Traceback" not in err
    assert b"Exception" not in err
    assert nexus.file("sessions", room, "cursor") is None


def test_a_full_disk_behind_stdout_moves_no_cursor(nexus, room):
    nexus("send", "room", "hello")
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "nexusd.cli.nexus", "poll", "room"],
            env=nexus.env,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert process.returncode == 1
    assert b"Traceback" not in process.stderr
    assert nexus.file("sessions", room, "cursor") is None


def test_poll_all_goes_on_when_one_session_fails(nexus, room):
    gone, down = "a" * 48, "b" * 48
    nexus.write("me\n", "sessions", gone, "agent")
    nexus.write("me\n", "sessions", down, "agent")
    nexus.write("http://127.0.0.1:1\n", "sessions", down, "server")
    nexus("send", "room", "hello")
    ran = nexus("poll-all")
    assert ran.status == 0
    entries = {entry["sessionId"]: entry for entry in ran.json["sessions"]}
    assert set(entries) == {room, down}
    assert entries[down]["error"] == "server_unreachable"
    assert [m["text"] for m in entries[room]["messages"]] == ["hello"]
    statuses = {e["sessionId"]: e["status"] for e in nexus("ls").json["sessions"]}
    assert statuses == {room: "active", gone: "not_found", down: "unreachable"}


def test_one_undecodable_message_hides_no_other(nexus, room, answering):
    deep = "[" * 50_000 + "]" * 50_000
    first, second = f'{{"id":"1","cursor":"7","json":{deep}}}', '{"id":"2","cursor":"8","text":"hi"}'
    answering.answer(200, f'{{"messages":[{first},{second}],"nextCursor":"8"}}'.encode())
    ran = nexus("poll", "room", "--url", answering.url)
    assert ran.status == 0
    assert '"text":"hi"' in ran.out
    assert nexus.file("sessions", room, "cursor") == "8\n"


@pytest.mark.parametrize("said", [None, "0", 0, "7", 7, "absent"])
def test_an_empty_answer_never_moves_the_cursor_whatever_it_says(nexus, room, answering, said):
    nexus.write("7\n", "sessions", room, "cursor")
    answering.answer(200, {"messages": []} | ({} if said == "absent" else {"nextCursor": said}))
    assert nexus("poll", "room", "--url", answering.url).status == 0
    assert nexus.file("sessions", room, "cursor") == "7\n"
    assert answering.asked[0][1].endswith("?after=7")


@pytest.mark.parametrize("said", [None, "0", "9", 9, "absent"])
def test_the_highest_cursor_seen_is_saved_whatever_the_answer_says(nexus, room, answering, said):
    body = {"messages": [{"cursor": "8"}, {"cursor": "9"}]} | ({} if said == "absent" else {"nextCursor": said})
    answering.answer(200, body)
    assert nexus("poll", "room", "--url", answering.url).status == 0
    assert nexus.file("sessions", room, "cursor") == "9\n"
    assert "after" not in answering.asked[0][1]


def test_numbers_keep_their_digits(nexus, room, answering):
    answering.answer(200, b'{"messages":[{"cursor":"1","json":1.10},{"cursor":"2","json":1e999}],\n"nextCursor":"2"}')
    ran = nexus("poll", "room", "--url", answering.url, "--after", "0")
    assert '"json":1.10' in ran.out
    assert ran.out.count("\n") == 1


def test_a_server_without_json_gets_it_as_text_or_strict_refuses(nexus, room, answering):
    answering.answer(200, {"status": "ok"})
    answering.answer(200, {"status": "ok"})
    answering.answer(201, {"id": "m", "cursor": "1"})
    failed(nexus("send", "room", "--json", '{"a":1}', "--strict", "--url", answering.url), "json_not_supported")
    ran = nexus("send", "room", "look", "--json", '{"a":1}', "--url", answering.url)
    assert ran.status == 0
    assert "it goes as text" in ran.err
    assert json.loads(answering.asked[-1][3]) == {"text": 'look {"a":1}'}
