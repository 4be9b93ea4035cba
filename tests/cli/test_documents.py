"""The wheel: what a person's shell and `man` find once it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from nexusd.cli import nexus, nexusd
from tests.cli.conftest import ROOT

PROGRAMS = {"nexus": nexus.COMMANDS, "nexusd": nexusd.COMMANDS}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel, built from a copy of the project so that nothing is left in it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    project = folder / "project"
    skipped = shutil.ignore_patterns(".git", ".venv", "tests", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, project, ignore=skipped)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project,
        check=True,
        env={**os.environ, "PYTHONPATH": "", "COLUMNS": "30"},
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture
def share(wheel):
    (found,) = wheel.glob("*.data/data/share")
    return found


def test_the_pages_come_with_it_and_the_hook_does_not(wheel):
    for name in ("SKILL.md", "config.example.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            assert (wheel / "nexusd" / name).read_bytes() == file.read()
    assert (wheel / "nexusd" / "py.typed").exists()
    assert not (wheel / "nexusd" / "build_hook.py").exists()
    assert not list(wheel.glob("tests"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_manual_tells_of_every_command(share, program):
    page = (share / "man" / "man1" / f"{program}.1").read_text()
    assert page.startswith(f'.TH {program.upper()} "1" ')
    bare = page.replace("\\-", "-")
    for command in PROGRAMS[program]:
        assert f".SH COMMAND \\fI\\,'{program} {command}'\\/\\fR" in bare
    assert ROOT not in page


@pytest.mark.parametrize("program", PROGRAMS)
def test_man_has_nothing_to_complain_of(share, program):
    if shutil.which("man") is None:
        pytest.skip("no man here")
    ran = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(share / "man" / "man1" / f"{program}.1")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""


def test_bash_completes_commands_and_options(share):
    script = share / "bash-completion" / "completions" / "nexusd"
    ask = f"source {script}; COMP_WORDS=(nexusd {{}}); COMP_CWORD={{}}; _shtab_nexusd; echo ${{{{COMPREPLY[@]}}}}"
    for typed, at, offered in (("rele", 1, ["release"]), ("add x --c", 3, ["--code", "--create", "--config"])):
        ran = subprocess.run(["bash", "-c", ask.format(typed, at)], capture_output=True, text=True, check=True)
        assert ran.stdout.split() == offered, ran.stderr


def test_zsh_and_fish_can_read_theirs(share):
    for shell, path in (("zsh", "zsh/site-functions/_{}"), ("fish", "fish/vendor_completions.d/{}.fish")):
        for program, commands in PROGRAMS.items():
            script = share / path.format(program)
            assert all(command in script.read_text() for command in commands)
            if shutil.which(shell):
                subprocess.run([shell, "-n", str(script)], check=True)
