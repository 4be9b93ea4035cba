"""What is kept for how long."""

from __future__ import annotations

import os
from pathlib import Path

from nexusd.spool.prune import prune, prune_inbox

NOW = 2e9
DAY = 86400.0


def put(place: str, name: str, note: str | None, age: float) -> None:
    path = Path(place, name)
    path.write_text("x")
    for made in [path, *([Path(place, name + note)] if note else [])]:
        made.touch()
        os.utime(made, (NOW - age, NOW - age))


def names(place: str) -> list[str]:
    return sorted(os.listdir(place))


def test_what_is_older_goes_with_its_note_and_the_rest_stays(folder):
    for days in (1, 29, 31, 400):
        put(folder.sent, f"s{days}", ".receipt.json", days * DAY)
        put(folder.failed, f"f{days}", ".error.json", days * DAY)
    assert prune(folder, keep_sent=30 * DAY, keep_failed=30 * DAY, now=NOW) == 4
    assert names(folder.sent) == ["s1", "s1.receipt.json", "s29", "s29.receipt.json"]
    assert names(folder.failed) == ["f1", "f1.error.json", "f29", "f29.error.json"]


def test_always_is_always_and_each_place_has_its_own_time(folder):
    put(folder.sent, "s", ".receipt.json", 1e9)
    put(folder.failed, "f", ".error.json", 1e9)
    assert prune(folder, keep_sent="always", keep_failed="always", now=NOW) == 0
    assert prune(folder, keep_sent=0.0, keep_failed="always", now=NOW) == 1
    assert (names(folder.sent), names(folder.failed)) == ([], ["f", "f.error.json"])


def test_the_age_is_that_of_the_end_and_not_of_the_file(folder):
    put(folder.sent, "old file", None, 400 * DAY)
    note = Path(folder.sent, "old file.receipt.json")
    note.touch()
    os.utime(note, (NOW - DAY, NOW - DAY))
    assert prune(folder, keep_sent=30 * DAY, keep_failed=30 * DAY, now=NOW) == 0
    assert names(folder.sent) == ["old file", "old file.receipt.json"]


def test_folders_links_and_notes_without_a_file_go_too_and_nothing_behind_a_link(folder, tmp_path):
    (tmp_path / "precious").write_text("x")
    os.symlink(tmp_path / "precious", os.path.join(folder.failed, "link"))
    Path(folder.failed, "folder").mkdir()
    os.symlink(tmp_path, os.path.join(folder.failed, "folder", "inside"))
    for name in ("link", "folder", "gone"):
        note = Path(folder.failed, f"{name}.error.json")
        note.touch()
        os.utime(note, (NOW - DAY, NOW - DAY))
    assert prune(folder, keep_sent="always", keep_failed=60.0, now=NOW) == 3
    assert names(folder.failed) == []
    assert (tmp_path / "precious").read_text() == "x"


def test_a_clock_that_went_back_removes_nothing(folder):
    put(folder.sent, "x", ".receipt.json", -DAY)
    assert prune(folder, keep_sent=60.0, keep_failed=60.0, now=NOW) == 0


def rotated(folder, *firsts: int) -> None:
    for first in firsts:
        put(folder.path, f"inbox-{first}.jsonl", None, 10 * DAY)
    put(folder.path, "inbox.jsonl", None, 10 * DAY)


def parts(folder) -> list[str]:
    return [name for name in names(folder.path) if name.startswith("inbox")]


def test_a_part_of_the_inbox_goes_when_every_reader_has_passed_it(folder):
    rotated(folder, 1, 11, 101)
    assert prune_inbox(folder, DAY, read_up_to=9, now=NOW) == 0
    assert prune_inbox(folder, DAY, read_up_to=10, now=NOW) == 1
    assert parts(folder) == ["inbox-101.jsonl", "inbox-11.jsonl", "inbox.jsonl"]
    assert prune_inbox(folder, DAY, read_up_to=1000, now=NOW) == 1
    assert parts(folder) == ["inbox-101.jsonl", "inbox.jsonl"]  # the newest tells where numbers go on


def test_a_part_of_the_inbox_that_is_not_old_stays(folder):
    rotated(folder, 1, 11)
    assert prune_inbox(folder, 20 * DAY, read_up_to=1000, now=NOW) == 0
    assert prune_inbox(folder, "always", read_up_to=1000, now=NOW) == 0
    assert len(parts(folder)) == 3
