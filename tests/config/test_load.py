"""TOML files to a configuration, and all that is wrong with them at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nexusd.config import load as loading
from nexusd.config.load import config_file, load
from nexusd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ID, OTHER = "5e" * 24, "6f" * 24


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "etc" / "config.toml"
    path.parent.mkdir()
    return path


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def faults(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(str(file), {})
    assert caught.value.exit_status == 78
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def one_fault(file: Path) -> str:
    (fault,) = faults(file)
    return fault


# ---- which file


def test_the_file_that_is_named_counts_then_the_environment_in_order(tmp_path):
    environ = {
        "NEXUSD_CONFIG": "/n/x.toml",
        "CONFIGURATION_DIRECTORY": "/c1:/c2",
        "XDG_CONFIG_HOME": "/x",
    }
    assert config_file("/named.toml", environ) == "/named.toml"
    assert config_file(None, environ) == "/n/x.toml"
    del environ["NEXUSD_CONFIG"]
    assert config_file(None, environ) == "/c1/config.toml"
    del environ["CONFIGURATION_DIRECTORY"]
    assert config_file(None, environ) == "/x/nexusd/config.toml"
    assert config_file(None, {}) == f"{tmp_path}/home/.config/nexusd/config.toml"


def test_a_relative_or_home_name_is_made_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file("x.toml", {}) == f"{tmp_path}/x.toml"
    assert config_file("~/x.toml", {}) == f"{tmp_path}/home/x.toml"


def test_the_systems_file_counts_only_where_the_user_has_no_folder(tmp_path, monkeypatch):
    real = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/etc/nexusd/config.toml" or real(path))
    assert config_file(None, {}) == "/etc/nexusd/config.toml"
    (tmp_path / "home" / ".config" / "nexusd").mkdir(parents=True)
    assert config_file(None, {}) == f"{tmp_path}/home/.config/nexusd/config.toml"


def test_no_file_is_a_configuration_with_no_sessions(tmp_path):
    config = load(None, {})
    assert (config.file, config.sessions) == (None, ())
    assert config.root == f"{tmp_path}/home/nexus"
    assert config.client_dir == f"{tmp_path}/home/.config/messaging"
    assert config.server == "https://messaging.md"
    assert config.requests_per_minute == 90


@pytest.mark.parametrize("environ", [True, False])
def test_a_file_that_was_asked_for_must_be_there(tmp_path, environ):
    path = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="there is no such file"):
        load(*((None, {"NEXUSD_CONFIG": path}) if environ else (path, {})))


# ---- what is in it


def test_a_session_inherits_what_it_does_not_say(file):
    text = f'agent_id = "me"\npoll_interval = "20s"\nttl = "2h"\n[sessions.a]\nid = "{ID}"\npoll_interval = "10s"\n'
    config = load(str(write(file, text)), {})
    (session,) = config.sessions
    assert (session.name, session.id, session.server) == ("a", ID, None)
    assert (session.settings.agent_id, session.settings.poll_interval, session.settings.ttl) == ("me", 10.0, 7200.0)
    assert config.defaults.poll_interval == 20.0
    assert ID not in repr(config)


def test_sessions_come_from_both_places_and_in_the_order_of_their_names(file):
    write(file, f'[sessions.b]\nid = "{ID}"\n')
    write(file.parent / "sessions.d" / "a.toml", f'id = "{OTHER}"\nagent_id = "x"\nserver = "https://b.example"\n')
    write(file.parent / "sessions.d" / ".a.toml.swp", "nonsense")
    write(file.parent / "sessions.d" / "notes.txt", "nonsense")
    config = load(str(file), {})
    assert [(s.name, s.id, s.server, s.settings.agent_id) for s in config.sessions] == [
        ("a", OTHER, "https://b.example", "x"),
        ("b", ID, None, None),
    ]
    assert config.sessions_folder == str(file.parent / "sessions.d")


def test_sessions_count_without_a_file_too(tmp_path):
    folder = tmp_path / "home" / ".config" / "nexusd" / "sessions.d"
    folder.mkdir(parents=True)
    write(folder / "a.toml", f'id = "{ID}"\n')
    assert [s.name for s in load(None, {}).sessions] == ["a"]


def test_paths_count_from_the_files_folder(file):
    config = load(str(write(file, 'root = "nexus"\nca_file = "../ca.pem"\n')), {})
    assert config.root == str(file.parent / "nexus")
    assert config.ca_file == str(file.parent.parent / "ca.pem")


def test_a_poll_at_rest_quicker_than_the_active_one_makes_that_quicker_too(file):
    config = load(str(write(file, f'poll_interval = "1s"\n[sessions.a]\nid = "{ID}"\npoll_interval = "500ms"\n')), {})
    assert config.defaults.active_poll_interval == 1.0
    assert config.sessions[0].settings.active_poll_interval == 0.5
    fault = one_fault(write(file, 'poll_interval = "1s"\nactive_poll_interval = "2s"\n'))
    assert fault == f"{file}: active_poll_interval: must not be longer than poll_interval"


# ---- what is wrong with it


def test_all_faults_are_told_at_once_each_with_its_place_and_what_would_be_right(file):
    write(
        file,
        f'pol_interval = "1s"\nsettle = "soon"\ninbox_own = 1\nserver = "http://example.com"\n'
        f'[sessions.a]\nid = "{ID}"\nroot = "x"\nttl = "1s"\nbanana = 1\n'
        f"[sessions.B]\nid = 5\n[sessions.c]\n",
    )
    write(file.parent / "sessions.d" / "d.toml", "id =")
    found = faults(file)
    wanted = [
        (f"{file}: pol_interval: unknown key", "did you mean poll_interval?"),
        (f"{file}: settle: must be a duration", '"7d"'),
        (f"{file}: inbox_own: must be true or false", ""),
        (f"{file}: server: http://example.com would send", "allow_insecure"),
        (f"{file}: sessions.a: root: holds for the whole daemon", "move it out"),
        (f"{file}: sessions.a: ttl: must be a duration from 1m to 30d", ""),
        (f"{file}: sessions.a: banana: unknown key", ""),
        (f"{file}: sessions.B: 'B' cannot name a session", "a-z 0-9"),
        (f"{file}: sessions.c: id: must be the session's id", "nexusd add"),
        (f"{file.parent}/sessions.d/d.toml: is not TOML", ""),
    ]
    for begin, inside in wanted:
        assert [fault for fault in found if fault.startswith(begin) and inside in fault], (begin, found)
    assert not any(ID in fault for fault in found)


@pytest.mark.parametrize("text", ["a = ", b"\xff", "[a", "a = 1\na = 2", '"', "\x00"])
def test_what_is_no_toml_is_said_to_be_none(file, text):
    assert one_fault(write(file, text)).startswith(f"{file}: is not TOML: ")


def test_toml_nested_beyond_reason_is_a_fault_and_no_crash(file):
    assert faults(write(file, "a = " + "[" * 100_000))


def test_a_file_that_cannot_be_read_is_said_so(file):
    file.mkdir()
    assert one_fault(file) == f"{file}: it is a folder; move it away: mv {file} {file}.old"
    file.rmdir()
    file.symlink_to(file.parent / "nowhere")
    assert "no such file" in faults(file)[0]


@pytest.mark.parametrize(
    "sessions", ["sessions = 5", "sessions = [1]", "[sessions]\na = 5", '[[sessions.a]]\nid = "x"']
)
def test_sessions_are_tables(file, sessions):
    assert "table" in one_fault(write(file, sessions))


@pytest.mark.parametrize("name", ['"../x"', '".x"', '""', '"A"', '"a b"', f'"{"x" * 65}"', '"\\u0000"', '"a/b"'])
def test_a_session_cannot_leave_its_place_by_its_name(file, name):
    assert "cannot name a session" in one_fault(write(file, f'[sessions.{name}]\nid = "{ID}"\n'))


def test_a_file_in_sessions_d_whose_name_cannot_name_a_session_is_told(file):
    write(file, "")
    write(file.parent / "sessions.d" / "Bad Name.toml", f'id = "{ID}"\n')
    assert "'Bad Name' cannot name a session" in load(str(file), {}).skipped["Bad Name"]


@pytest.mark.parametrize(
    "identity", ["", "short", "../../../../etc/passwd", "a/b" * 10, ".hidden" * 5, "x" * 200, "é" * 20]
)
def test_an_id_that_could_not_name_a_folder_is_none(file, identity):
    fault = one_fault(write(file, f'[sessions.a]\nid = "{identity}"\n'))
    assert ": sessions.a: id: must be the session's id" in fault
    assert len(identity) < 5 or identity not in fault


def test_two_names_for_one_session_are_one_too_many(file):
    write(file, f'[sessions.a]\nid = "{ID}"\n[sessions.b]\nid = "{ID}"\nserver = "https://messaging.md"\n')
    assert "a and b are the same session" in one_fault(file)
    write(file, f'[sessions.a]\nid = "{ID}"\n[sessions.b]\nid = "{ID}"\nserver = "https://other.example"\n')
    assert len(load(str(file), {}).sessions) == 2


def test_one_name_for_two_sessions_is_one_too_few(file):
    write(file, f'[sessions.a]\nid = "{ID}"\n')
    dropin = write(file.parent / "sessions.d" / "a.toml", f'id = "{OTHER}"\n')
    config = load(str(file), {})
    assert [(s.name, s.id) for s in config.sessions] == [("a", ID)]
    assert config.skipped == {"a.toml": f"{dropin}: a is a session of the main file already; run: rm {dropin}"}


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o622, 0o777])
def test_a_file_with_an_id_that_others_may_read_is_refused_with_what_mends_it(file, mode):
    write(file, f'[sessions.a]\nid = "{ID}"\n', mode)
    assert one_fault(file).endswith(f"run: chmod 600 {file}")
    write(file, "", 0o644)  # without an id it is no secret
    dropin = write(file.parent / "sessions.d" / "a.toml", f'id = "{ID}"\n', mode)
    assert load(str(file), {}).skipped["a"].endswith(f"run: chmod 600 {dropin}")


@pytest.mark.parametrize("server", ["http://example.com", "http://192.0.2.1:3000"])
def test_ids_that_would_travel_unencrypted_are_a_fault_wherever_the_server_stands(file, server):
    assert "allow_insecure = true" in one_fault(write(file, f'server = "{server}"\n'))
    session = f'[sessions.a]\nid = "{ID}"\nserver = "{server}"\n'
    assert ": sessions.a: server: " in one_fault(write(file, session))
    config = load(str(write(file, "allow_insecure = true\n" + session)), {})
    assert config.sessions[0].server == server


@pytest.mark.parametrize("server", ["https://u:p@x.example", "https://x.example/?a=b", "https://x.example:99999"])
def test_a_server_that_cannot_be_one_is_a_fault_wherever_it_stands(file, server):
    assert faults(write(file, f'server = "{server}"\n'))
    assert faults(write(file, f'[sessions.a]\nid = "{ID}"\nserver = "{server}"\n'))


def test_equal_files_are_equal_configurations_so_nothing_is_disturbed(file):
    write(file, f'poll_interval = "20s"\n[sessions.a]\nid = "{ID}"\n')
    assert load(str(file), {}) == load(str(file), {})
    before = load(str(file), {})
    write(file, f'poll_interval = "21s"\n[sessions.a]\nid = "{ID}"\n')
    assert load(str(file), {}) != before


def test_a_folder_of_sessions_that_cannot_be_listed_is_none(file, monkeypatch):
    write(file, "")
    write(file.parent / "sessions.d", "a file")
    config = loading.load(str(file), {})
    assert config.sessions == ()
    assert "none of its sessions is served" in config.skipped["sessions.d"]
    assert "it is no folder; move it away: mv " in config.skipped["sessions.d"]


def test_no_path_holds_a_nul(file):
    assert one_fault(write(file, 'root = "a\\u0000b"\n')).endswith("root: must be a string in quotes")
