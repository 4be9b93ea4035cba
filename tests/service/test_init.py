"""nexusd init: a configuration and folders, once, and never over anything."""

from __future__ import annotations

import json
import os
import stat
import subprocess

import pytest

from nexusd import shipped
from nexusd.config.load import load
from tests.world import NEXUSD


def init(home, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return subprocess.run(
        [*NEXUSD, "init", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        umask=0,
    )


def modes(home) -> dict[str, str]:
    return {str(path.relative_to(home)): oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(home.rglob("*"))}


def test_a_new_home_gets_a_commented_configuration_and_private_folders(tmp_path):
    ran = init(tmp_path)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert (said["written"], said["root"], said["sessions"]) == (True, str(tmp_path / "nexus"), [])
    assert modes(tmp_path) == {
        ".config": "0o700",
        ".config/messaging": "0o700",
        ".config/nexusd": "0o700",
        ".config/nexusd/config.toml": "0o600",
        ".config/nexusd/sessions.d": "0o700",
        "nexus": "0o700",
    }
    written = (tmp_path / ".config/nexusd/config.toml").read_bytes()
    assert written == shipped.page(shipped.EXAMPLE)
    for command in ("nexusd add friend --create", "nexusd add friend --code LINK", "nexusd run", "nexus skill"):
        assert command in ran.stderr


def test_what_is_written_is_a_valid_configuration_of_defaults_only(tmp_path):
    init(tmp_path, "--config", str(tmp_path / "c.toml"))
    (tmp_path / "empty.toml").touch(0o600)
    with_page, without = load(str(tmp_path / "c.toml")), load(str(tmp_path / "empty.toml"))
    assert with_page.defaults == without.defaults
    assert with_page.server == without.server


@pytest.mark.parametrize("content", ["", 'root = "elsewhere"\n'])
def test_a_second_time_changes_nothing(tmp_path, content):
    config = tmp_path / "c.toml"
    config.write_text(content)
    config.chmod(0o600)
    before = config.stat()
    for _ in range(2):
        ran = init(tmp_path, "--config", str(config))
        assert (ran.returncode, json.loads(ran.stdout)["written"]) == (0, False)
        assert "stays as it is" in ran.stderr
    after = config.stat()
    assert (after.st_ino, after.st_mtime_ns, config.read_text()) == (before.st_ino, before.st_mtime_ns, content)
    assert (tmp_path / "elsewhere").is_dir() == bool(content)


def test_a_broken_configuration_is_told_and_left_alone(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("root = 7\n")
    ran = init(tmp_path, "--config", str(config))
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (78, "bad_config")
    assert config.read_text() == "root = 7\n"


def test_a_link_to_nowhere_is_not_written_through(tmp_path):
    config = tmp_path / "c.toml"
    config.symlink_to(tmp_path / "target.toml")
    assert init(tmp_path, "--config", str(config)).returncode != 0
    assert not (tmp_path / "target.toml").exists()


def test_a_home_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / ".config").write_text("in the way")
    ran = init(tmp_path)
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (1, "local_files")
    assert "Traceback" not in ran.stderr
