"""nexusd unit, and the units that are shipped. No systemd is started or asked: its tools read the files alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nexusd.cli.service import unit
from tests.world import NEXUSD

UNITS = Path(__file__).parents[2] / "systemd"
SYSTEM, USER = UNITS / "nexusd@.service", UNITS / "user" / "nexusd.service"
HARDEST, HARDER = 15, 65  # tenths of the exposure that systemd-analyze finds: 0 is none, 100 all

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT TESTED: no systemd-analyze here")


def printed(*words, **environment):
    ran = subprocess.run(
        [*NEXUSD, "unit", *words], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


def runnable(text):
    """The unit with a program that is there, so that nothing but the unit itself can be wrong."""
    lines = [f"ExecStart={sys.executable} run" if line.startswith("ExecStart=") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def analyzed(folder, name, text, *words):
    path = folder / name
    path.write_text(text)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *words, str(path)], capture_output=True, text=True, check=False, env=environment
    )


@analyze
@pytest.mark.parametrize("which", ["shipped", "printed"])
def test_systemd_has_nothing_to_say_against_the_system_unit(tmp_path, which):
    text = SYSTEM.read_text() if which == "shipped" else printed()[0]
    ran = analyzed(tmp_path, "nexusd@alice.service", runnable(text), "verify")
    assert (ran.returncode, ran.stderr) == (0, "")


@analyze
@pytest.mark.parametrize("which", ["shipped", "printed"])
def test_systemd_has_nothing_to_say_against_the_user_unit(tmp_path, which):
    text = USER.read_text() if which == "shipped" else printed("--user")[0]
    ran = analyzed(tmp_path, "nexusd.service", runnable(text), "verify", "--user")
    assert (ran.returncode, ran.stderr) == (0, "")


@analyze
def test_the_verifier_would_say_so(tmp_path):
    text = runnable(SYSTEM.read_text()).replace("PrivateTmp=yes", "PrivateTpm=yes")
    assert "PrivateTpm" in analyzed(tmp_path, "nexusd@alice.service", text, "verify").stderr


@analyze
@pytest.mark.parametrize(
    ("name", "text", "most"), [("nexusd@alice.service", SYSTEM, HARDEST), ("u.service", USER, HARDER)]
)
def test_the_sandbox_is_as_tight_as_promised(tmp_path, name, text, most):
    scored = analyzed(
        tmp_path, name, text.read_text(), "security", "--offline=true", f"--threshold={most}", "--no-pager"
    )
    print(f"\n{name}: {scored.stdout.splitlines()[-1].strip()}")
    assert scored.returncode == 0, scored.stdout


def test_what_ends_for_good_is_not_started_again_and_hooks_may_compile():
    for path in (SYSTEM, USER):
        lines = path.read_text().splitlines()
        assert "RestartPreventExitStatus=75 78" in lines
        assert "Restart=on-failure" in lines
        assert "Type=notify" in lines
        assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
        assert not [line for line in lines if line.startswith(("MemoryDenyWriteExecute", "StateDirectory"))]


def test_it_has_this_installations_paths(tmp_path):
    config = tmp_path / "my config" / "100%.toml"
    config.parent.mkdir()
    config.write_text(
        'root = "/srv/nexus"\nclient_dir = "/srv/nexus/client"\nmetrics_file = "/var/lib/metrics/n.prom"\n'
    )
    text, said = printed("--config", str(config))
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert start.endswith(f' run --config "{config.parent}/100%%.toml"')
    assert "ReadWritePaths=/srv/nexus /var/lib/metrics" in text.splitlines()
    hidden = next(line for line in text.splitlines() if line.startswith("BindReadOnlyPaths="))
    assert f'"{config.parent}"' in hidden
    assert "install -d" in said
    assert "/srv/nexus" in said
    assert "nexusd@" in said


def test_only_paths_differ_from_what_is_shipped():
    for words, path in (((), SYSTEM), (("--user",), USER)):
        shipped = [line for line in path.read_text().splitlines() if not line.startswith("# `nexusd unit")]
        text = printed(*words, NEXUSD_CONFIG="")[0].splitlines()
        new = [line for line in text if line not in shipped]
        gone = [line for line in shipped if line not in text]
        assert {line.partition("=")[0] for line in new} <= {"ExecStart", "BindPaths", "BindReadOnlyPaths"}
        assert {line.partition("=")[0] for line in gone} <= {"ExecStart", "BindPaths"}


class Named:
    def __init__(self, name):
        self.pw_name = name


def home(monkeypatch, name, path):
    monkeypatch.setattr(unit.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(unit.pwd, "getpwuid", lambda _: Named(name))
    monkeypatch.setenv("HOME", path)
    return unit.Home()


def test_a_home_of_the_usual_kind_stands_for_any(monkeypatch):
    alice = home(monkeypatch, "alice", "/home/alice")
    assert alice.name == "/home/%i"
    assert alice.word("/home/alice/.local/bin/nexusd") == "/home/%i/.local/bin/nexusd"
    assert alice.word("/home/alice/my config/c.toml") == '"/home/%i/my config/c.toml"'
    assert alice.word("/home/alicex/y") == "/home/alicex/y"
    assert alice.hidden(["/home/alice/venv", "/usr", "/home/shared/venv", "/home/shared/venv/lib"]) == [
        "/home/shared/venv"
    ]
    assert alice.outside(["/home/alice/nexus", "/srv/b", "/srv/b/c", "/srv/a"]) == ["/srv/a", "/srv/b"]


def test_another_home_stands_for_itself(monkeypatch):
    agent = home(monkeypatch, "agent", "/var/lib/agents/agent 1")
    assert agent.name == '"/var/lib/agents/agent 1"'
    assert agent.hidden(["/opt/nexusd", "/home/x/venv"]) == ["/home/x/venv"]


def test_words_are_written_so_that_systemd_reads_them_back():
    assert unit.word("/a/b") == "/a/b"
    assert unit.word("/a b/100%/$x") == '"/a b/100%%/$$x"'
    assert unit.word('/a"b\\c') == '"/a\\"b\\\\c"'


@pytest.mark.slow
def test_the_units_come_with_the_wheel(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=UNITS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named hatchling" in built.stderr:
        pytest.skip("NOT TESTED: no hatchling here")
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert wheel.read("nexusd/systemd/nexusd@.service") == SYSTEM.read_bytes()
        assert wheel.read("nexusd/systemd/user/nexusd.service") == USER.read_bytes()
