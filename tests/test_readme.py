"""What the README shows of Python is true, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import nexusd

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_reads_and_sends(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "nexus" / "friend"
    (folder / "outbox").mkdir(parents=True)
    lines = (f'{{"kind":"message","seq":{n},"session":"friend","text":"line {n}"}}\n' for n in range(1, 20))
    (folder / "inbox.jsonl").write_text("".join(lines))
    (code,) = re.findall(r"```python\n(.+?)```", README.read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - ours
    assert capsys.readouterr().out == "18 line 18\n19 line 19\n"
    (dropped,) = (folder / "outbox").iterdir()
    assert dropped.read_text() == "Hello!\n"


def test_a_drop_that_was_named_with_a_tilde_can_be_followed_and_taken_back(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "friend" / "outbox").mkdir(parents=True)
    dropped = nexusd.drop("~/friend", "Hello!")
    assert not dropped.settled(timeout=0)
    assert dropped.take_back()
    assert not list((tmp_path / "friend" / "outbox").iterdir())
