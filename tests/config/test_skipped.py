"""A fault of a file in sessions.d is that one session's: it is skipped and said, and the others go on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nexusd import serving
from nexusd.clientdir import ClientDir
from nexusd.config.load import load
from nexusd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ID, OTHER, THIRD = "5e" * 24, "6f" * 24, "7a" * 24


class World:
    def __init__(self, home: Path) -> None:
        self.file = home / "config.toml"
        self.folder = home / "sessions.d"
        self.client = home / "client"
        self.folder.mkdir(0o700)
        self.main("")

    def main(self, text: str) -> None:
        self.file.write_text(f'client_dir = "client"\n{text}')
        self.file.chmod(0o600)

    def dropin(self, name: str, text: str | bytes, mode: int = 0o600) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def recorded(self, session: str, name: str) -> None:
        """As a daemon leaves it that serves the session under this name."""
        serving.point(ClientDir(str(self.client)), session, f"/root/{name}")

    def load(self):
        config = load(str(self.file), {})
        for session in (ID, OTHER, THIRD):
            assert session not in str(config.skipped)
        return {s.name: s.id for s in config.sessions}, dict(config.skipped)


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("id = ", 0o600, "is not TOML"),
        (b"\xff\xfe", 0o600, "is not TOML: it is not UTF-8"),
        ("", 0o600, "id: must be the session's id"),
        (f'id = "{OTHER}"\nbanana = 1\n', 0o600, "banana: unknown key"),
        (f'id = "{OTHER}"\npoll_interval = true\n', 0o600, "poll_interval: must be"),
        (f'id = "{OTHER}"\nroot = "x"\n', 0o600, "holds for the whole daemon"),
        (f'id = "{OTHER}"\nserver = "http://example.com"\n', 0o600, "unencrypted"),
        (f'id = "{OTHER}"\n', 0o644, "chmod 600"),
        (b"a" * ((1 << 20) + 1), 0o600, "it is larger than 1 MiB"),
    ],
)
def test_case_153_a_file_that_is_no_good_is_skipped_and_said_with_what_mends_it(world, text, mode, said):
    world.dropin("good", f'id = "{ID}"\n')
    path = world.dropin("bad", text, mode)
    sessions, skipped = world.load()
    assert sessions == {"good": ID}
    assert list(skipped) == ["bad"]
    assert skipped["bad"].startswith(f"{path}: ")
    assert said in skipped["bad"]
    assert "; run: chmod 600" in skipped["bad"] or skipped["bad"].endswith("run: nexusd remove bad")


def test_case_153_a_fifo_or_a_folder_among_them_keeps_nobody_waiting(world):
    world.dropin("good", f'id = "{ID}"\n')
    os.mkfifo(world.folder / "pipe.toml", 0o600)
    (world.folder / "folder.toml").mkdir(0o700)
    sessions, skipped = world.load()
    assert sessions == {"good": ID}
    assert sorted(skipped) == ["folder", "pipe"]
    assert all("no regular file; run: mv " in why for why in skipped.values())


@pytest.mark.parametrize("copy", ["a-copy", "zz-copy"])
@pytest.mark.parametrize("recorded", [True, False])
def test_case_153_a_stray_copy_takes_no_inbox_away_whatever_its_name_sorts(world, copy, recorded):
    world.dropin("chat", f'id = "{ID}"\n')
    path = world.dropin(copy, f'id = "{ID}"\n')
    if recorded:
        world.recorded(ID, "chat")
    sessions, skipped = world.load()
    if recorded or copy > "chat":
        assert sessions == {"chat": ID}
        assert skipped == {copy: f"{path}: it is the same session as chat, which is served; run: nexusd remove {copy}"}
    else:
        assert (sessions, list(skipped)) == ({copy: ID}, ["chat"])


def test_case_153_a_copy_does_not_take_over_while_the_file_of_the_recorded_one_is_broken(world):
    world.dropin("chat", f'id = "{ID}"\n', 0o644)
    world.dropin("a-copy", f'id = "{ID}"\n')
    world.recorded(ID, "chat")
    sessions, skipped = world.load()
    assert (sessions, sorted(skipped)) == ({}, ["a-copy", "chat"])
    assert "it is served under the name chat" in skipped["a-copy"]


def test_case_153_without_a_record_the_main_file_goes_before_sessions_d(world):
    world.main(f'[sessions.z]\nid = "{ID}"\n')
    world.dropin("a", f'id = "{ID}"\n')
    assert world.load()[0] == {"z": ID}
    world.recorded(ID, "a")
    sessions, skipped = world.load()
    assert (sessions, list(skipped)) == ({"a": ID}, ["z"])
    assert "take that table out of the main file" in skipped["z"]


def test_case_153_two_with_one_id_in_the_main_file_are_its_fault(world):
    world.main(f'[sessions.z]\nid = "{ID}"\n[sessions.y]\nid = "{ID}"\n')
    with pytest.raises(ConfigError, match="z and y are the same session"):
        world.load()


def test_case_153_when_the_main_file_is_broken_the_others_faults_are_told_too(world):
    world.main("rot = 1\n")
    world.dropin("bad", "id = ")
    with pytest.raises(ConfigError) as caught:
        world.load()
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize("named", [ID, f"x-{ID}", ID[:10] + "-" + ID, OTHER])
def test_case_148_a_file_named_by_a_session_id_is_skipped_without_repeating_it(world, named):
    world.dropin("good", f'id = "{THIRD}"\n')
    world.recorded(OTHER, "elsewhere")
    world.dropin(named, f'id = "{ID}"\n')
    sessions, skipped = world.load()
    assert sessions == {"good": THIRD}
    (said,) = skipped.values()
    assert "named by a session's id" in said
    assert "[secret]" in next(iter(skipped))


def test_case_148_an_id_that_is_no_hex_is_known_by_its_table(world):
    odd = "opaque-session-0001"
    world.dropin(f"my-{odd}", f'id = "{odd}"\n')
    sessions, skipped = world.load()
    assert sessions == {}
    assert odd not in str(skipped)


@pytest.mark.parametrize("named", [ID, f"a-{ID}", OTHER, ID.upper()])
def test_case_148_a_table_named_by_a_session_id_is_the_main_files_fault_without_repeating_it(world, named):
    ClientDir(str(world.client)).save(OTHER, agent="me")
    world.main(f'[sessions.{named}]\nid = "{ID}"\n')
    with pytest.raises(ConfigError) as caught:
        world.load()
    assert "named by a session's id" in str(caught.value)
    for session in (ID, OTHER):
        assert session not in str(caught.value).lower()


def test_case_148_the_parsers_own_words_do_not_repeat_it_either(world):
    world.main(f"[sessions.{ID}]\n[sessions.{ID}]\n")
    with pytest.raises(ConfigError) as caught:
        world.load()
    assert ID not in str(caught.value)
