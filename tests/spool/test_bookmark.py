from __future__ import annotations

import os
import stat

import pytest

from nexusd.errors import UserError
from nexusd.spool.bookmark import Bookmark


@pytest.fixture
def warned():
    return []


@pytest.fixture
def mark(tmp_path, warned):
    return Bookmark(str(tmp_path / "client"), str(tmp_path / "root" / "research"), "default", warned.append)


def file_of(tmp_path) -> str:
    (home,) = os.listdir(tmp_path / "client" / "readers")
    assert home.startswith("research-")
    return str(tmp_path / "client" / "readers" / home / "default")


def test_a_new_reader_begins_at_the_beginning(mark):
    with mark.held():
        assert mark.seq == 0
        assert not mark.has(1)


def test_what_is_consumed_is_remembered_privately(mark, tmp_path):
    with mark.held():
        mark.consume(upto=7)
    with open(file_of(tmp_path)) as file:
        assert file.read() == "7\n"
    assert stat.S_IMODE(os.stat(file_of(tmp_path)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(file_of(tmp_path))).st_mode) == 0o700
    with mark.held():
        assert (mark.seq, mark.has(7), mark.has(8)) == (7, True, False)


def test_single_lines_beyond_are_remembered_until_the_rest_is_consumed(mark, tmp_path):
    with mark.held():
        mark.consume([3, 5])
        assert (mark.seq, [n for n in range(1, 7) if mark.has(n)]) == (0, [3, 5])
    with mark.held():
        mark.consume(upto=2)
        assert mark.seq == 3
    with mark.held():
        mark.consume([4])
        assert mark.seq == 5
    with open(file_of(tmp_path)) as file:
        assert file.read() == "5\n"


@pytest.mark.parametrize("content", [b"", b"banana", b"-1\n", b"7 x\n", b"\xff", b"9" * 40, b"7\n7\n"])
def test_a_corrupt_bookmark_begins_again_and_says_so(mark, tmp_path, warned, content):
    with mark.held():
        mark.consume(upto=1)
    with open(file_of(tmp_path), "wb") as file:
        file.write(content)
    with mark.held():
        assert mark.seq == 0
    assert "could not be read" in warned[0]


def test_a_bookmark_behind_the_end_begins_again_but_not_where_the_inbox_is_empty(mark, warned):
    with mark.held():
        mark.consume(upto=57)
        mark.fits(0)
        assert (mark.seq, warned) == (57, [])
        mark.fits(57)
        assert (mark.seq, warned) == (57, [])
        mark.fits(12)
        assert mark.seq == 0
    assert "the inbox ends at 12" in warned[0]


@pytest.mark.parametrize("reader", ["", ".lock", "../x", "a/b", "-x", "ä", "x" * 65, "a b"])
def test_a_readers_name_is_a_plain_name(tmp_path, reader):
    with pytest.raises(UserError, match="reader's name"):
        Bookmark(str(tmp_path), str(tmp_path), reader)


def test_folders_of_one_name_have_bookmarks_of_their_own(tmp_path):
    marks = [Bookmark(str(tmp_path), str(tmp_path / root / "research"), "default") for root in ("a", "b")]
    with marks[0].held():
        marks[0].consume(upto=3)
    with marks[1].held():
        assert marks[1].seq == 0
