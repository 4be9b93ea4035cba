"""The local state that all clients share: layout, modes, and what is done about corrupt files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time

import pytest

from nexusd import serving
from nexusd.clientdir import ClientDir, is_session_id
from nexusd.errors import UserError
from nexusd.serving import Serving

SESSION, SECOND = "5e" * 24, "ab" * 24


@pytest.fixture
def warned():
    return []


@pytest.fixture
def state(tmp_path, warned):
    return ClientDir(str(tmp_path / "messaging"), warn=warned.append)


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_an_empty_home_holds_nothing_and_is_not_made_by_looking(state):
    assert state.sessions() == []
    assert state.aliases() == {}
    assert state.server_url() is None
    assert state.agent(SESSION) is state.key(SESSION) is state.cursor(SESSION) is state.server(SESSION) is None
    assert not os.path.exists(state.path)


def test_values_are_one_line_each_in_private_files(state):
    umask = os.umask(0o022)
    try:
        state.save(SESSION, agent="me", key="k", server="https://x", cursor="5")
    finally:
        os.umask(umask)
    home = os.path.join(state.path, "sessions", SESSION)
    for name, value in {"agent": "me", "key": "k", "server": "https://x", "cursor": "5"}.items():
        with open(os.path.join(home, name)) as file:
            assert file.read() == f"{value}\n"
        assert mode(os.path.join(home, name)) == 0o600
        assert getattr(state, name)(SESSION) == value
    assert mode(home) == mode(os.path.dirname(home)) == mode(state.path) == 0o700
    assert sorted(os.listdir(home)) == ["agent", "cursor", "key", "server"]


@pytest.mark.parametrize("content", ["me", "me\n", "  me \n", "me\r\n"])
def test_values_of_other_clients_are_read_with_or_without_a_newline(state, content):
    state.save(SESSION, agent="x")
    with open(os.path.join(state.path, "sessions", SESSION, "agent"), "w") as file:
        file.write(content)
    assert state.agent(SESSION) == "me"


def test_none_removes_a_value_and_an_empty_file_counts_as_none(state):
    state.save(SESSION, agent="me", key="k")
    state.save(SESSION, key=None)
    assert state.key(SESSION) is None
    state.save(SESSION, key=None)
    state.save(SESSION, key="")
    assert state.key(SESSION) is None
    assert state.agent(SESSION) == "me"


@pytest.mark.parametrize("data", [b"", b"\n", b"  \r\n"])
def test_an_agent_that_was_emptied_is_a_fault_and_no_leave(state, data):
    write_record(state, SESSION, "agent", data)
    with pytest.raises(UserError, match="the file agent of"):
        state.agent(SESSION)


@pytest.mark.parametrize("bad", ["../../etc/passwd", "..", "", "short", "a/b" * 10, "x" * 200, "a\nb" * 10, "-" * 20])
def test_an_id_that_cannot_name_a_folder_is_never_made_a_path(state, bad):
    assert not is_session_id(bad)
    assert state.agent(bad) is None
    with pytest.raises(UserError, match="cannot name a folder"):
        state.save(bad, agent="me")
    state.forget(bad)


def test_forgetting_a_session_takes_its_aliases_along_and_nothing_else(state):
    for session in (SESSION, SECOND):
        state.save(session, agent="me")
    state.set_alias("a", SESSION)
    state.set_alias("b", SECOND)
    state.set_alias("c", SESSION)
    state.forget(SESSION)
    assert state.sessions() == [SECOND]
    assert state.aliases() == {"b": SECOND}
    assert state.resolve("b") == SECOND
    assert state.resolve("a") == "a"


def test_aliases_tell_whether_anything_changed(state):
    assert state.set_alias("a", SESSION) is True
    assert state.set_alias("a", SESSION) is False
    assert state.set_alias("a", None) is True
    assert state.set_alias("a", None) is False


def test_fields_of_other_clients_are_kept(state):
    os.makedirs(state.path)
    with open(os.path.join(state.path, "config.json"), "w") as file:
        json.dump({"serverUrl": "https://old", "theirs": {"x": 1}}, file)
    state.set_server_url("https://new")
    with open(os.path.join(state.path, "config.json")) as file:
        config = json.load(file)
    assert (config["serverUrl"], config["theirs"]) == ("https://new", {"x": 1})
    assert "updatedAt" in config
    state.set_server_url(None)
    assert state.server_url() is None


@pytest.mark.parametrize("content", [b"{bad", b"", b"[]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_a_corrupt_file_is_kept_beside_and_said(state, warned, content):
    os.makedirs(state.path)
    for name in ("aliases.json", "config.json"):
        with open(os.path.join(state.path, name), "wb") as file:
            file.write(content)
    assert state.aliases() == {}
    assert state.server_url() is None
    assert state.set_alias("a", SESSION)
    assert state.aliases() == {"a": SESSION}
    with open(os.path.join(state.path, "aliases.json.broken"), "rb") as file:
        assert file.read() == content
    assert len(warned) == 2


def test_capabilities_are_good_for_300_seconds_and_for_one_server(state, monkeypatch):
    state.set_caps("https://x", {"messageFormat": ["text"]})
    assert state.caps("https://x") == {"messageFormat": ["text"]}
    assert state.caps("https://y") is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    assert state.caps("https://x") is None
    monkeypatch.setattr(time, "time", lambda: now - 10)
    assert state.caps("https://x") is None


def test_two_that_change_the_aliases_at_once_lose_nothing(state):
    threads = [threading.Thread(target=state.set_alias, args=(f"a{n}", SESSION)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(state.aliases()) == 20
    assert sorted(os.listdir(state.path)) == [".lock", "aliases.json"]


SERVED = """
import sys
from nexusd import serving
from nexusd.clientdir import ClientDir
print(serving.is_served(ClientDir(sys.argv[1]), sys.argv[2]))
"""


def is_served(state, session: str) -> str:
    """Asked by another process: a process does not see its own record locks."""
    ran = subprocess.run(
        [sys.executable, "-c", SERVED, state.path, session], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_a_session_is_served_while_its_daemon_holds_it(state, tmp_path):
    for session in (SESSION, SECOND):
        state.save(session, agent="me")
    assert is_served(state, SESSION) == "False"
    daemon = Serving(state)
    assert daemon.take(SESSION, str(tmp_path / "root" / "research"))
    assert is_served(state, SESSION) == "True"
    assert is_served(state, SECOND) == "False"
    assert serving.folder(state, SESSION) == str(tmp_path / "root" / "research")
    assert serving.folders(state) == {"research": str(tmp_path / "root" / "research")}
    daemon.release(SESSION)
    assert is_served(state, SESSION) == "False"
    daemon.take(SESSION, str(tmp_path / "root" / "research"))
    daemon.close()
    assert is_served(state, SESSION) == "False"
    assert serving.folder(state, SESSION) is not None
    assert serving.folder(state, "..") is None


ODD_RECORDS = {
    "a second line": b"VALUE-0123456789\nsecond\n",
    "a CR inside": b"VALUE-0123456789\rsecond\n",
    "a control character": b"VALUE-0123456789\x1b[2J\n",
    "a character that is not ASCII": "VALUE-0123456789\u2013\n".encode(),
    "what is not UTF-8": b"VALUE-0123456789\xff\n",
    "a space inside": b"VALUE-0123456789 second\n",
    "a NUL": b"VALUE-0123456789\x00",
    "more than any record": b"VALUE-0123456789" * 300,
}


def write_record(state, session: str, name: str, data: bytes) -> None:
    state.save(session, agent="me")
    with open(os.path.join(state.path, "sessions", session, name), "wb") as file:
        file.write(data)


@pytest.mark.parametrize("name", ["agent", "key", "server"])
@pytest.mark.parametrize("data", ODD_RECORDS.values(), ids=ODD_RECORDS.keys())
def test_case_185_a_record_that_no_header_may_hold_is_refused_by_its_name_and_not_its_value(state, name, data):
    write_record(state, SESSION, name, data)
    state.save(SECOND, agent="me", key="k")
    for named in (None, "research"):
        if named:
            state.set_alias(named, SESSION)
        with pytest.raises(UserError) as caught:
            getattr(state, name)(SESSION)
        said = str(caught.value)
        assert caught.value.code == "bad_record"
        assert f"the file {name} of {f'session {named}' if named else 'a session without a name'}" in said
        assert f"sessions/\u2026/{name}" in said
        assert "mend that file, or remove it" in said
        for secret in ("VALUE", "second", SESSION):
            assert secret not in said
        assert state.trouble(SESSION) == said
    assert state.trouble(SECOND) is None


@pytest.mark.parametrize("name", ["agent", "key", "server", "cursor"])
def test_case_185_what_could_not_be_read_is_not_written_either(state, name):
    state.save(SESSION, agent="me", key="k", server="https://x", cursor="5")
    with pytest.raises(UserError) as caught:
        state.save(SESSION, **{"agent": "new", name: "from-the-server\nsecond"})
    assert "from-the-server" not in str(caught.value)
    assert (state.agent(SESSION), state.key(SESSION)) == ("me", "k")  # nothing was half saved


def test_case_185_a_record_of_a_served_session_is_named_by_its_folder(state):
    write_record(state, SESSION, "key", b"a\nb\n")
    serving.point(state, SESSION, "/root/research")
    assert "the file key of session research" in str(state.trouble(SESSION))


@pytest.mark.parametrize("data", [b"x", b"1\n2\n", b"-1", b"1.5", b"[]", "\u0663".encode(), b"9" * 5000])
def test_case_185_a_cursor_that_is_none_counts_as_none_and_is_said(state, warned, data):
    write_record(state, SESSION, "cursor", data)
    assert state.cursor(SESSION) is None
    assert len(warned) == 1
    assert SESSION not in warned[0]


@pytest.mark.parametrize(
    "value", [{"a": 5, "b": [1], "c": None, "d": {}, "e": SESSION}, {"a": ["\ud800"], "e": SESSION}, {"e": "\ud800"}]
)
def test_case_185_odd_types_in_the_shared_files_crash_nobody(state, value):
    os.makedirs(state.path)
    for name in ("aliases.json", "config.json", "server-caps.json"):
        with open(os.path.join(state.path, name), "w") as file:
            json.dump(value | {"serverUrl": 7, "fetchedAt": 10**400, "capabilities": {}}, file)
    assert set(state.aliases()) <= {"e", "a", "d"}
    assert state.server_url() is None
    assert state.caps("https://x") is None
    assert state.set_alias("new", SESSION)
    assert state.aliases()["new"] == SESSION


def test_case_185_a_folder_where_a_shared_file_should_be_is_set_aside(state, warned):
    os.makedirs(os.path.join(state.path, "aliases.json"))
    assert state.aliases() == {}
    assert state.set_alias("a", SESSION)
    assert len(warned) == 1


@pytest.mark.parametrize("name", ["agent", "key", "server"])
def test_a_record_that_is_a_folder_is_told_without_the_id(state, name):
    state.save(SESSION, agent="me", key="k", server="https://x.example")
    path = os.path.join(state.path, "sessions", SESSION, name)
    os.unlink(path)
    os.mkdir(path)
    said = state.trouble(SESSION)
    assert f"{state.path}: in its sessions a folder stands" in said
    assert SESSION not in said
