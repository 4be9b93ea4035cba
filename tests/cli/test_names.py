"""Whom a name means: the configuration first, then aliases; and nobody guesses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nexusd.spool import state as states
from nexusd.spool.layout import SessionFolder
from nexusd.spool.state import State

OLD, NEW = "5e" * 24, "6f" * 24


@pytest.fixture
def two(nexus, answering):
    """Two sessions that we are in; `a` is an alias of the old one."""
    for session in (OLD, NEW):
        nexus.write("me\n", "sessions", session, "agent")
        nexus.write(f"{answering.url}\n", "sessions", session, "server")
    nexus.write(json.dumps({"a": OLD, "other": NEW}), "aliases.json")
    answering.answer(201, {"id": "m", "cursor": "1", "code": "A-B-C", "messages": [], "agents": ["me"], "ok": True})
    return answering


def configure(nexus, *, main: str = "", **files: str) -> None:
    nexus.write(main, ".config", "nexusd", "config.toml")
    for name, text in files.items():
        nexus.write(text, ".config", "nexusd", "sessions.d", f"{name}.toml")


def written_by_add(session: str) -> str:
    return f'id = "{session}"\nagent_id = "me"\n'


FORMS = {
    "as add writes it": {"a": written_by_add(NEW)},
    "as a person writes it": {"a": f"# mine\nid='{NEW}' # its id\npoll_interval = '1s'\n"},
}


@pytest.mark.parametrize("files", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize(
    "command", [["send", "a", "hi"], ["pair", "a"], ["poll", "a"], ["renew", "a"], ["status", "a"]]
)
def test_case_143_a_name_in_sessions_d_outranks_an_alias(nexus, two, files, command):
    configure(nexus, **files)
    nexus(*command, "--direct") if command[0] == "send" else nexus(*command)
    assert two.asked
    for _, path, _, body in two.asked:
        assert NEW in path + body.decode()
        assert OLD not in path + body.decode()


@pytest.mark.parametrize("header", ["[sessions.a]", "  [ sessions . 'a' ]", '["sessions".a]'])
def test_case_143_a_table_of_the_main_file_outranks_an_alias_too(nexus, two, header):
    configure(nexus, main=f'# sessions\n{header}\nid = "{NEW}"\n')
    nexus("poll", "a")
    assert NEW in two.asked[0][1]


def test_case_143_inline_tables_count_as_well(nexus, two):
    configure(nexus, main=f'sessions.a.id = "{NEW}"\n')
    nexus("poll", "a")
    assert NEW in two.asked[0][1]


@pytest.mark.parametrize("text", ["", "id = ", 'id = "short"', "\x00"])
def test_case_143_a_broken_file_of_that_name_is_no_reason_to_go_to_the_old_session(nexus, two, text):
    configure(nexus, a=text)
    ran = nexus("send", "a", "hi", "--direct")
    assert (ran.status, ran.json["error"]) == (1, "bad_config")
    assert "sessions.d/a.toml" in ran.err
    assert two.asked == []
    assert nexus("poll", "other").status == 0  # a name of its own is not kept back


def test_case_143_the_place_is_the_one_that_the_daemon_reads(nexus, two, tmp_path):
    configure(nexus, a=written_by_add(OLD))
    nexus.write(written_by_add(NEW), "elsewhere", "sessions.d", "a.toml")
    nexus.write("", "elsewhere", "config.toml")
    nexus("poll", "a", NEXUSD_CONFIG=nexus.path("elsewhere", "config.toml"))
    assert NEW in two.asked[-1][1]
    nexus("poll", "a", CONFIGURATION_DIRECTORY=nexus.path("elsewhere"))
    assert NEW in two.asked[-1][1]
    nexus("poll", "a")
    assert OLD in two.asked[-1][1]


def test_case_143_the_records_are_where_the_configuration_says(nexus, two):
    nexus.write("somebody\n", ".config", "elsewhere", "sessions", NEW, "agent")
    nexus.write(f"{two.url}\n", ".config", "elsewhere", "sessions", NEW, "server")
    configure(nexus, main='client_dir = "../elsewhere"\n', a=written_by_add(NEW))
    assert nexus("poll", "a", NEXUS_CLIENT_DIR="").status == 0
    assert two.asked[-1][2]["x-agent-id"] == "somebody"


@pytest.mark.parametrize("main", ['client_dir = "../elsewhere"\n[broken', f'[sessions.a]\nid = "{NEW}"\nx = ['])
@pytest.mark.parametrize("command", [["send", "a", "hi", "--agent-id", "me"], ["pair", "a"], ["status", "a"]])
def test_a_broken_main_file_that_says_where_the_records_are_sends_nothing_anywhere(nexus, two, main, command):
    """Else an id and a message go to whatever server an account without records is told of."""
    configure(nexus, main=main, a=written_by_add(NEW))
    ran = nexus(*command, NEXUS_CLIENT_DIR="", NEXUS_URL=two.url)
    assert (ran.status, ran.json["error"]) == (78, "bad_config")
    assert "config.toml is broken" in ran.err
    assert two.asked == []


def test_a_main_file_that_is_broken_elsewhere_keeps_nobody_from_sending(nexus, two):
    configure(nexus, main="poll_interval = [broken", a=written_by_add(NEW))
    assert nexus("poll", "a").status == 0
    assert NEW in two.asked[0][1]


@pytest.mark.parametrize(
    "wrapped", ["<{}>", '"{}"', "{},", "id={}", "/v1/sessions/{}", "{}/messages", " {}", "X{}", "{}."]
)
@pytest.mark.parametrize("command", [["send", "hi"], ["poll"], ["read"], ["alias", "name"], ["leave"]])
def test_an_id_that_was_pasted_with_something_round_it_is_not_repeated(nexus, two, wrapped, command):
    verb, *more = command
    ran = nexus(verb, wrapped.format(NEW), *more)
    assert NEW not in ran.err + json.dumps(ran.json)
    assert ran.status


def test_case_143_what_is_shown_is_the_name_that_means_it(nexus, two):
    configure(nexus, a=written_by_add(NEW))
    shown = {e["sessionId"]: e["alias"] for e in nexus("ls").json["sessions"]}
    assert shown == {OLD: None, NEW: "a"}
    shown = {e["sessionId"]: e["alias"] for e in nexus("poll-all").json["sessions"]}
    assert shown == {OLD: None, NEW: "a"}


def test_case_143_no_alias_is_set_that_would_never_count(nexus, two):
    configure(nexus, a=written_by_add(NEW))
    assert nexus("alias", OLD, "a").json["error"] == "name_taken"
    assert nexus("create", "--alias", "a").json["error"] == "name_taken"
    assert nexus("alias", NEW, "a").status == 0


def test_case_143_a_folder_that_two_sessions_were_served_from_is_no_guess(nexus, two):
    nexus.write("{}", "aliases.json")
    for session in (OLD, NEW):
        nexus.write("/root/chat\n", "sessions", session, "nexusd")
    for name in ("chat", "/root/chat"):
        ran = nexus("send", name, "hi", "--direct")
        assert (ran.status, ran.json["error"]) == (1, "ambiguous_name")
    assert two.asked == []
    configure(nexus, chat=written_by_add(NEW))
    for name in ("chat", "/root/chat"):
        nexus("send", name, "hi", "--direct")
        assert NEW in two.asked[-1][1]


def test_case_143_finding_a_name_costs_no_library(nexus, two):
    configure(nexus, main="# sessions are in sessions.d\n", a=written_by_add(NEW))
    code = (
        "import sys; sys.argv = ['nexus', 'pair', 'a']\n"
        "from argparse import Namespace\nfrom nexusd.cli.hand.desk import Desk\n"
        f"assert Desk(Namespace(url=None, agent_id=None)).session('a') == '{NEW}'\n"
        "heavy = {'httpx', 'structlog', 'asyncio', 'msgspec', 'tomllib', 'nexusd.config.load', 'dataclasses'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=nexus.env, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


# ---- case 148


@pytest.mark.parametrize("alias", [OLD, f"x-{NEW}", "7a" * 24])
def test_case_148_no_alias_holds_a_sessions_id(nexus, two, alias):
    before = nexus.file("aliases.json")
    for words in (["alias", "other", alias], ["create", "--alias", alias], ["claim", "A-B-C", "--alias", alias]):
        ran = nexus(*words, "--agent-id", "you")
        assert (ran.status, ran.json["error"]) == (1, "bad_alias")
        assert alias not in ran.out + ran.err
    assert nexus.file("aliases.json") == before
    assert two.asked == []


# ---- case 142


def record(nexus, session: str) -> dict[str, str | None]:
    return {name: nexus.file("sessions", session, name) for name in ("agent", "key", "server")}


def test_case_142_claim_shows_a_second_agents_key_and_keeps_the_first_ones_record(nexus, other, room):
    before, aliases = record(nexus, room), nexus.file("aliases.json")
    code = nexus("pair", "room").json["code"]
    ran = nexus("claim", code, "--agent-id", "second", "--alias", "again")
    assert ran.status == 1
    assert ran.json["sessionKey"]
    assert "we are alice in this session already" in ran.err
    assert ran.json["sessionKey"] not in ran.err
    assert (record(nexus, room), nexus.file("aliases.json")) == (before, aliases)


def test_case_142_join_as_a_second_agent_is_refused_before_the_server_is_asked(nexus, room):
    before = record(nexus, room)
    ran = nexus("join", "room", "--agent-id", "second", "--url", "http://127.0.0.1:1")
    assert (ran.status, ran.json["error"]) == (1, "other_agent")
    assert record(nexus, room) == before


def test_case_142_create_does_not_take_two_agents_for_one_record(nexus):
    words = ["create", "--creator-agent-id", "boss", "--join-as", "me"]
    ran = nexus(*words, NEXUS_URL="http://127.0.0.1:1")
    assert (ran.status, ran.json["error"]) == (1, "two_agents")
    assert nexus("create", "--creator-agent-id", "me", "--join-as", "me").status == 0


# ---- case 144


def test_case_144_a_session_that_was_made_is_shown_whatever_fails_afterwards(nexus, answering):
    # The record's folder turns out to be a file, which no probe of the folder around it can see.
    nexus.write("in the way", "sessions", OLD)
    answering.answer(201, {"sessionId": OLD, "sessionKey": "the-key"})
    ran = nexus("create", "--creator-agent-id", "me", "--pair", "--url", answering.url)
    assert ran.status == 1
    assert (ran.json["sessionId"], ran.json["sessionKey"], ran.json["error"]) == (OLD, "the-key", "local_files")
    assert "the-key" not in ran.err


@pytest.mark.parametrize("where", [".lock", "sessions"])
@pytest.mark.parametrize("words", [["create", "--join-as", "me"], ["claim", "A-B-C", "--agent-id", "me"]])
def test_case_144_what_cannot_be_written_is_found_out_first(nexus, answering, where, words):
    if where == ".lock":
        os.makedirs(nexus.path(".lock"))
    else:
        nexus.write("a file", "sessions")
    answering.answer(201, {"sessionId": NEW, "sessionKey": "the-key"})
    ran = nexus(*words, "--url", answering.url)
    assert (ran.status, ran.json["error"]) == (1, "local_files")
    assert answering.asked == []


# ---- case 147


@pytest.mark.parametrize("command", ["claim", "pair-status"])
def test_case_147_a_link_in_a_message_goes_to_its_own_server(nexus, answering, command):
    answering.answer(200, {"sessionId": NEW, "status": "claimed", "sessionKey": "k", "state": "pending"})
    text = f"Hello! <{answering.url.upper()}/p/able-acorn-34679?x=y> is yours.".encode()
    assert nexus(command, "-", "--agent-id", "me", stdin=text, NEXUS_URL="http://127.0.0.1:1").status == 0
    assert answering.asked[0][1].startswith("/v1/pair/ABLE-ACORN-34679/")


@pytest.mark.parametrize("command", ["claim", "pair-status"])
@pytest.mark.parametrize(
    ("text", "code"), [("https://x.example/p/A-B-C#nx1.abc", "sealed_link"), ("ABLE\u2009ACORN", "bad_code")]
)
def test_case_147_what_is_no_code_never_reaches_a_server(nexus, answering, command, text, code):
    ran = nexus(command, text, "--agent-id", "me", NEXUS_URL=answering.url)
    assert (ran.status, ran.json["error"]) == (1, code)
    assert answering.asked == []


# ---- case 185


@pytest.mark.parametrize(
    ("name", "data"),
    [("key", "KEY-1\nKEY-2\n"), ("agent", "m\u00e9\n"), ("server", "http://a\rb\n"), ("server", "ftp://x\n")],
)
def test_case_185_a_broken_record_is_that_sessions_fault_only(nexus, two, name, data):
    nexus.write(data, "sessions", OLD, name)
    listed = {e["sessionId"]: e["status"] for e in nexus("ls").json["sessions"]}
    assert listed == {OLD: "error", NEW: "active"}
    ran = nexus("poll-all")
    assert ran.status == 0
    assert {e["sessionId"]: e.get("error") for e in ran.json["sessions"]} == {OLD: "bad_record", NEW: None}
    ran = nexus("doctor")
    assert {e["sessionId"]: bool(e["problems"]) for e in ran.json["sessions"]} == {OLD: True, NEW: False}
    assert "session a" in ran.err or "record of a" in ran.err
    for secret in ("KEY-1", OLD):
        assert secret not in ran.err
    direct = nexus("send", "a", "hi", "--direct")
    assert direct.status == 1
    assert "KEY-1" not in direct.out + direct.err
    assert nexus("send", "other", "hi", "--direct").status == 0


@pytest.mark.parametrize("odd", ["[]", '{"a": 5, "other": ["x"]}', '{"a": null}', "7"])
def test_case_185_odd_shared_files_crash_nobody(nexus, two, odd):
    for file in ("aliases.json", "config.json", "server-caps.json"):
        nexus.write(odd, file)
    nexus.write("not a number\n", "sessions", NEW, "cursor")
    os.mkdir(nexus.path("sessions", NEW, "nexusd"))
    assert nexus("ls").status == 0
    assert nexus("poll", NEW).status == 0
    assert nexus("doctor").json["sessions"]


@pytest.mark.parametrize("known_by", ["its own table", "the configuration", "our state"])
@pytest.mark.parametrize(
    "command",
    [["poll", "a"], ["status", "a"], ["renew", "a"], ["pair", "a"], ["send", "a", "private words", "--direct"]],
)
def test_a_session_without_a_record_is_asked_for_where_it_is_served_and_nowhere_else(
    nexus, answering, relay, known_by, command
):
    """After a leave by hand the record of its server is gone, and the configuration still names the session."""
    main = f'server = "{answering.url if known_by == "the configuration" else relay}"\nroot = "r"\n'
    own = f'server = "{answering.url}"\n' if known_by == "its own table" else ""
    configure(nexus, main=main, a=written_by_add(NEW) + own)
    os.chmod(nexus.path(".config", "nexusd", "sessions.d", "a.toml"), 0o600)
    if known_by == "our state":
        folder = SessionFolder(nexus.path(".config", "nexusd", "r"), "a")
        folder.make()
        states.save(folder, State(server=answering.url, digest=states.digest_of(answering.url, NEW)))
    answering.answer(201, {"id": "m", "cursor": "1", "code": "A-B-C", "messages": [], "agents": ["me"], "ok": True})
    ran = nexus(*command, "--agent-id", "me", NEXUS_URL=relay)
    assert answering.asked, ran
    assert all(NEW in path + body.decode() for _, path, _, body in answering.asked)


def test_a_session_whose_server_nobody_can_tell_is_asked_for_nowhere_but_where_one_says(nexus, answering):
    configure(nexus, a=written_by_add(NEW))  # others may read it
    answering.answer(200, {"agents": ["me"], "ok": True})
    ran = nexus("status", "a", NEXUS_URL=answering.url)
    assert (ran.status, ran.json["error"]) == (1, "bad_config")
    assert answering.asked == []
    assert nexus("status", "a", "--url", answering.url).status == 0
