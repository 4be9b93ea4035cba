from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusd.spool.reading import Inbox


def line(seq: int, **more) -> bytes:
    return json.dumps({"kind": "message", "seq": seq, **more}).encode() + b"\n"


@pytest.fixture
def warned():
    return []


@pytest.fixture
def inbox(tmp_path, warned):
    return Inbox(str(tmp_path), warned.append)


def seqs(lines) -> list[int]:
    return [found.seq for found in lines]


def test_an_inbox_that_is_not_there_yet_has_no_lines(inbox):
    assert list(inbox.after(0)) == []
    assert inbox.last() == 0
    assert inbox.newest(5) == []
    assert inbox.mark() == (0, 0)


def test_lines_come_as_the_bytes_they_are(inbox, tmp_path):
    data = b'{"kind":"message","seq":1,"n":1.10,"text":"\\u0001"}\n'
    (tmp_path / "inbox.jsonl").write_bytes(data)
    (found,) = inbox.after(0)
    assert (found.seq, found.data, found.value["text"]) == (1, data, "\x01")


def test_a_last_line_without_its_newline_does_not_count_yet(inbox, tmp_path, warned):
    (tmp_path / "inbox.jsonl").write_bytes(line(1) + line(2)[:-1])
    assert seqs(inbox.after(0)) == [1]
    assert inbox.last() == 1
    (tmp_path / "inbox.jsonl").write_bytes(line(1) + line(2))
    assert seqs(inbox.after(1)) == [2]
    assert warned == []


@pytest.mark.parametrize(
    "foreign",
    [b"hello\n", b"{}\n", b"\n", b"\xff\xfe\n", b'{"seq":"1","kind":"x"}\n', b'{"seq":true,"kind":"x"}\n', b"7\n"],
)
def test_foreign_and_broken_lines_are_skipped_with_a_word(inbox, tmp_path, warned, foreign):
    (tmp_path / "inbox.jsonl").write_bytes(foreign + line(1) + foreign + line(2) + foreign)
    assert seqs(inbox.after(0)) == [1, 2]
    assert warned == ["3 line(s) of the inbox are not the daemon's and were skipped"]
    assert inbox.last() == 2


def test_a_line_nested_too_deeply_to_decode_is_a_line_all_the_same(inbox, tmp_path, warned):
    deep = b'{"kind":"message","seq":2,"agentId":"x","json":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    (tmp_path / "inbox.jsonl").write_bytes(line(1) + deep + line(3))
    found = list(inbox.after(0))
    assert seqs(found) == [1, 2, 3]
    assert found[1].data == deep
    assert found[1].value["agentId"] == "x"
    assert warned == []


def rotated(tmp_path) -> None:
    (tmp_path / "inbox-1.jsonl").write_bytes(b"".join(map(line, range(1, 4))))
    (tmp_path / "inbox-4.jsonl").write_bytes(b"".join(map(line, range(4, 11))))
    (tmp_path / "inbox-11.jsonl").write_bytes(b"".join(map(line, range(11, 13))))
    (tmp_path / "inbox.jsonl").write_bytes(b"".join(map(line, range(13, 15))))
    (tmp_path / "inbox-x.jsonl").write_bytes(line(99))
    (tmp_path / "inbox.damaged-1").write_bytes(line(98))


@pytest.mark.parametrize("seq", range(16))
def test_reading_goes_on_across_rotated_parts(inbox, tmp_path, warned, seq):
    rotated(tmp_path)
    assert seqs(inbox.after(seq)) == list(range(seq + 1, 15))
    assert warned == []


def test_the_last_number_is_found_where_the_current_part_is_empty_or_gone(inbox, tmp_path):
    rotated(tmp_path)
    assert (inbox.last(), inbox.end()) == (14, 14)
    (tmp_path / "inbox.jsonl").write_bytes(b"")
    assert inbox.last() == 12
    os.unlink(tmp_path / "inbox.jsonl")
    assert (inbox.last(), inbox.end()) == (12, 0)


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_the_newest_lines_come_in_order(inbox, tmp_path, count):
    rotated(tmp_path)
    assert seqs(inbox.newest(count)) == list(range(max(1, 15 - count), 15))


def test_a_part_that_is_rotated_while_the_folder_is_listed_is_read_once(inbox, tmp_path, monkeypatch):
    (tmp_path / "inbox.jsonl").write_bytes(line(1) + line(2))
    listdir = os.listdir

    def rotating(path):
        os.rename(tmp_path / "inbox.jsonl", tmp_path / "inbox-1.jsonl")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", rotating)
    assert seqs(inbox.after(0)) == [1, 2]


def test_lines_that_are_gone_are_said(inbox, tmp_path, warned):
    (tmp_path / "inbox.jsonl").write_bytes(line(5) + line(6) + line(8))
    assert seqs(inbox.after(3)) == [5, 6, 8]
    assert warned == ["line 4 is not in the inbox any more", "line 7 is not in the inbox any more"]
    warned.clear()
    assert seqs(inbox.after(1)) == [5, 6, 8]
    assert warned[0] == "lines 2 to 4 are not in the inbox any more"
    warned.clear()
    assert seqs(inbox.after(0)) == [5, 6, 8]
    assert warned == ["line 7 is not in the inbox any more"]


def test_a_batch_that_was_written_twice_is_read_once(inbox, tmp_path):
    (tmp_path / "inbox.jsonl").write_bytes(line(1) + line(2) + line(1) + line(2) + line(3))
    assert seqs(inbox.after(0)) == [1, 2, 3]


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=30), st.integers(0, 31))
def test_halving_finds_every_line_whatever_their_lengths(tmp_path_factory, lengths, seq):
    folder = tmp_path_factory.mktemp("inbox")
    (folder / "inbox.jsonl").write_bytes(b"".join(line(n, text="x" * size) for n, size in enumerate(lengths, 1)))
    inbox = Inbox(str(folder))
    assert seqs(inbox.after(seq)) == list(range(seq + 1, len(lengths) + 1))
    assert inbox.last() == len(lengths)
    assert seqs(inbox.newest(2)) == list(range(1, len(lengths) + 1))[-2:]


def test_little_is_read_of_a_large_inbox(inbox, tmp_path, monkeypatch):
    with open(tmp_path / "inbox.jsonl", "wb") as file:
        file.writelines(line(n, text="x" * 1000) for n in range(1, 20_001))
    parsed = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda data: parsed.append(len(data)) or loads(data))
    assert seqs(inbox.after(19_990)) == list(range(19_991, 20_001))
    assert inbox.last() == 20_000
    assert sum(parsed) < 300_000  # of 20 MB


def test_a_link_in_the_inboxes_place_is_not_followed(inbox, tmp_path):
    (tmp_path / "elsewhere").write_bytes(line(1))
    (tmp_path / "inbox.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        list(inbox.after(0))
