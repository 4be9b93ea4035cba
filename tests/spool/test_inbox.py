"""The inbox, whatever dies when and whoever else writes to it."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusd import jsontext
from nexusd.errors import UserError
from nexusd.spool import inbox as inboxes
from nexusd.spool import line
from nexusd.spool.inbox import Inbox, Tail

AT, STAMP = "2026-11-22T06:29:36.154Z", "2026"


def lines(first: int, count: int = 1, *, text: str = "hi", notice: bool = False) -> list[bytes]:
    made = []
    for seq in range(first, first + count):
        message = {"id": f"m{seq}", "agentId": "bob", "cursor": str(seq * 10), "text": text}
        entry = line.message(jsontext.fields(json.dumps(message).encode()), seq * 10, "bob")
        if notice:
            entry = line.notice("gap", f"g{seq}", "x")
        made.append(line.render(entry, seq=seq, session="chat", received_at=AT))
    return made


def identity(data: bytes) -> str:
    return line.identity(line.parse(data, "chat").fields)


@pytest.fixture
def inbox(folder) -> Inbox:
    return Inbox(folder, rotate_at=1 << 30)


def content(folder) -> bytes:
    with open(folder.inbox, "rb") as file:
        return file.read()


def seqs(data: bytes) -> list[int]:
    found = (line.parse(text, "chat") for text in data.splitlines())
    return [f.seq for f in found if f]


def damaged(folder) -> bytes:
    with open(folder.damaged_inbox(STAMP), "rb") as file:
        return file.read()


def test_lines_are_appended_in_order_and_the_file_is_private(folder, inbox):
    inbox.append(lines(1, 2), STAMP)
    inbox.append(lines(3), STAMP)
    assert content(folder) == b"".join(lines(1, 3))
    assert stat.S_IMODE(os.stat(folder.inbox).st_mode) == 0o600


def test_an_inbox_that_is_not_there_is_at_the_beginning(inbox):
    assert inbox.recover(0, STAMP) == Tail(0)
    assert inbox.recover(17, STAMP) == Tail(17)


def test_the_end_of_the_file_says_where_to_go_on(folder, inbox):
    written = lines(1, 5)
    inbox.append(written, STAMP)
    for known in range(5):
        assert inbox.recover(known, STAMP) == Tail(5, 50, identity(written[4]))
    assert inbox.recover(5, STAMP) == Tail(5)
    assert content(folder) == b"".join(written)


def test_notices_behind_the_last_message_do_not_hide_its_cursor(inbox):
    written = lines(1, 3)
    inbox.append(written + lines(4, 2, notice=True), STAMP)
    assert inbox.recover(1, STAMP) == Tail(5, 30, identity(written[2]))
    assert inbox.recover(3, STAMP) == Tail(5)  # the state knows that cursor already


def test_a_line_torn_at_any_byte_was_never_received(folder):
    whole, torn = b"".join(lines(1, 2)), lines(3)[0]
    for length in range(1, len(torn)):
        with open(folder.inbox, "wb") as file:
            file.write(whole + torn[:length])
        tail = Inbox(folder, rotate_at=1 << 30).recover(0, STAMP)
        assert (tail.seq, tail.cursor) == (2, 20)
        assert content(folder) == whole
    assert not os.path.exists(folder.damaged_inbox(STAMP))  # it was our own line, and comes again


def test_a_torn_line_longer_than_a_block_is_cut_whole(folder, inbox):
    whole, torn = b"".join(lines(1)), lines(2, text="x" * 300_000)[0][:-1]
    with open(folder.inbox, "wb") as file:
        file.write(whole + torn)
    assert inbox.recover(0, STAMP).seq == 1
    assert content(folder) == whole


def test_a_file_that_is_nothing_but_a_torn_line_is_empty_again(folder, inbox):
    with open(folder.inbox, "wb") as file:
        file.write(lines(1)[0][:-1])
    assert inbox.recover(0, STAMP) == Tail(0)
    assert content(folder) == b""


@pytest.mark.parametrize("foreign", [b"my note", b"\0" * 5000, b'{"seq": 3', b"{'", b"x" * 200_000])
def test_torn_bytes_that_are_not_ours_are_kept(folder, inbox, foreign):
    whole = b"".join(lines(1, 2))
    with open(folder.inbox, "wb") as file:
        file.write(whole + foreign)
    assert inbox.recover(0, STAMP).seq == 2
    assert content(folder) == whole
    assert damaged(folder) == foreign


def test_whole_lines_are_never_taken_back_whoever_wrote_them(folder, inbox):
    inbox.append(lines(1, 2), STAMP)
    foreign = b"my own line\n\n\xff\n" + b'{"kind":"message","seq":9,"session":"other"}\n'
    with open(folder.inbox, "ab") as file:
        file.write(foreign)
    assert inbox.recover(0, STAMP).seq == 2
    inbox.append(lines(3), STAMP)
    assert content(folder) == b"".join(lines(1, 2)) + foreign + lines(3)[0]


def test_what_somebody_writes_between_two_appends_is_not_glued_to_our_line(folder, inbox):
    inbox.append(lines(1), STAMP)
    with open(folder.inbox, "ab") as file:
        file.write(b"half a note")
    inbox.append(lines(2), STAMP)
    assert content(folder) == b"".join(lines(1, 2))
    assert damaged(folder) == b"half a note"


def test_a_file_that_was_truncated_is_gone_on_with(folder, inbox):
    inbox.append(lines(1, 2), STAMP)
    os.truncate(folder.inbox, 0)
    inbox.append(lines(3), STAMP)
    assert content(folder) == lines(3)[0]


@pytest.mark.parametrize("how", [os.unlink, lambda path: os.rename(path, path + ".old")])
def test_an_inbox_that_was_taken_away_is_begun_anew_with_the_next_number(folder, inbox, how):
    inbox.append(lines(1, 2), STAMP)
    how(folder.inbox)
    inbox.append(lines(3), STAMP)
    assert content(folder) == lines(3)[0]
    assert inbox.recover(3, STAMP) == Tail(3)


def between(monkeypatch, action) -> None:
    """Do something once between an append's write and its fdatasync."""
    real = os.fdatasync
    left = [action]

    def fdatasync(fd: int) -> None:
        if left:
            left.pop()()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)


def test_lines_that_went_into_a_deleted_file_are_written_again(folder, inbox, monkeypatch):
    inbox.append(lines(1), STAMP)
    between(monkeypatch, lambda: os.unlink(folder.inbox))
    inbox.append(lines(2), STAMP)
    assert content(folder) == lines(2)[0]


def test_lines_that_went_into_a_file_being_moved_are_there_and_nowhere_else(folder, inbox, monkeypatch):
    inbox.append(lines(1), STAMP)
    moved = folder.inbox + ".old"
    between(monkeypatch, lambda: os.rename(folder.inbox, moved))
    inbox.append(lines(2), STAMP)
    with open(moved, "rb") as file:
        assert file.read() == b"".join(lines(1, 2))
    assert not os.path.exists(folder.inbox)
    inbox.append(lines(3), STAMP)
    assert content(folder) == lines(3)[0]


def test_it_is_rotated_at_its_size_and_numbers_go_on(folder):
    inbox = Inbox(folder, rotate_at=sum(map(len, lines(1, 3))))
    for seq in range(1, 8):
        inbox.append(lines(seq), STAMP)
    with open(folder.rotated_inbox(1), "rb") as one, open(folder.rotated_inbox(4), "rb") as two:
        assert seqs(one.read()) == [1, 2, 3]
        assert seqs(two.read()) == [4, 5, 6]
    assert seqs(content(folder)) == [7]
    assert Inbox(folder, rotate_at=1).recover(0, STAMP).seq == 7


def test_a_batch_is_not_split_over_two_files(folder):
    inbox = Inbox(folder, rotate_at=10)
    inbox.append(lines(1, 50), STAMP)
    with open(folder.rotated_inbox(1), "rb") as file:
        assert seqs(file.read()) == list(range(1, 51))


@pytest.mark.parametrize("begun", [False, True], ids=["nothing_since", "a_new_file"])
def test_case_03_a_crash_between_the_rotation_and_the_state_finds_the_lines_in_the_rotated_part(folder, begun):
    inbox = Inbox(folder, rotate_at=10)
    inbox.append(lines(1), STAMP)
    inbox.append(lines(2, 2), STAMP)
    if begun:  # of an append of which nothing is left
        with open(folder.inbox, "wb") as file:
            file.write(b'{"kind":"mess')
    (last,) = lines(3)
    assert Inbox(folder, rotate_at=10).recover(1, STAMP) == Tail(3, 30, identity(last))
    assert Inbox(folder, rotate_at=10).recover(3, STAMP) == Tail(3)


def test_a_folder_that_is_named_like_a_rotated_part_is_looked_into_by_nobody(folder):
    os.mkdir(folder.rotated_inbox(9))
    assert Inbox(folder, rotate_at=10).recover(4, STAMP) == Tail(4)


def test_a_file_without_a_line_of_ours_is_not_rotated(folder):
    with open(folder.inbox, "wb") as file:
        file.write(b"mine\n" * 100)
    inbox = Inbox(folder, rotate_at=10)
    inbox.append([b"nobody's\n"], STAMP)
    assert os.path.exists(folder.inbox)


def test_a_rotated_part_is_named_for_the_first_line_of_ours_in_it(folder):
    with open(folder.inbox, "wb") as file:
        file.write(b"mine\n")
    inbox = Inbox(folder, rotate_at=10)
    inbox.append(lines(5), STAMP)
    assert os.path.exists(folder.rotated_inbox(5))


def test_with_the_state_and_the_current_inbox_lost_the_last_part_still_tells(folder):
    inbox = Inbox(folder, rotate_at=10)
    for seq in (1, 2, 10):
        inbox.append(lines(seq), STAMP)
    last = lines(10)[0]
    assert Inbox(folder, rotate_at=10).recover(0, STAMP) == Tail(10, 100, identity(last))
    open(folder.inbox, "w").close()
    assert Inbox(folder, rotate_at=10).recover(0, STAMP).seq == 10
    with open(folder.inbox, "wb") as file:
        file.write(lines(11)[0][:20])  # torn
    assert Inbox(folder, rotate_at=10).recover(0, STAMP).seq == 10


def test_what_only_looks_like_a_rotated_part_is_none(folder):
    for name in (
        "inbox-x.jsonl",
        "inbox-.jsonl",
        "inbox-1.jsonl.old",
        "inbox-" + "9" * 19 + ".jsonl",
        "xinbox-1.jsonl",
    ):
        with open(os.path.join(folder.path, name), "wb") as file:
            file.write(lines(99)[0])
    assert Inbox(folder, rotate_at=10).recover(0, STAMP) == Tail(0)


def in_its_place(folder, what: str, tmp_path) -> None:
    if what == "link":
        (tmp_path / "target").write_bytes(b"precious\n")
        os.symlink(tmp_path / "target", folder.inbox)
    elif what == "pipe":
        os.mkfifo(folder.inbox)
    elif what == "hard link":
        (tmp_path / "target").write_bytes(b"precious\n")
        os.link(tmp_path / "target", folder.inbox)
    elif what == "folder":
        os.mkdir(folder.inbox)
    else:
        listening = socket.socket(socket.AF_UNIX)
        os.chdir(folder.path)
        listening.bind("inbox.jsonl")


@pytest.mark.parametrize("what", ["link", "pipe", "hard link", "folder", "socket"])
def test_what_is_no_plain_file_of_ours_is_neither_read_nor_written(folder, inbox, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_its_place(folder, what, tmp_path)
    for attempt in (lambda: inbox.append(lines(1), STAMP), lambda: inbox.recover(0, STAMP)):
        with pytest.raises((OSError, UserError)):
            attempt()
    if (tmp_path / "target").exists():
        assert (tmp_path / "target").read_bytes() == b"precious\n"


def test_a_file_of_another_account_is_refused_with_a_sentence(folder, inbox, monkeypatch):
    inbox.append(lines(1), STAMP)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UserError, match="not a plain file of this account's") as caught:
        inbox.append(lines(2), STAMP)
    assert caught.value.code == "inbox_not_ours"


def full_after(monkeypatch, room: int) -> None:
    """A disk with so many bytes left."""
    real = os.write
    left = [room]

    def write(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(fd, bytes(data)[: left[0]])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("room", [0, 1, 50, 200, 300])
def test_after_a_full_disk_what_got_there_whole_is_received_and_the_rest_is_not(folder, inbox, room):
    first, batch = lines(1), lines(2, 3)
    inbox.append(first, STAMP)
    with pytest.MonkeyPatch.context() as patch:
        full_after(patch, room)
        with pytest.raises(OSError, match="No space"):
            inbox.append(batch, STAMP)
    tail = inbox.recover(1, STAMP)
    whole = [text for n, text in enumerate(batch) if sum(map(len, batch[: n + 1])) <= room]
    assert content(folder) == b"".join(first + whole)
    assert tail.seq == 1 + len(whole)
    inbox.append(batch[len(whole) :], STAMP)
    assert seqs(content(folder)) == [1, 2, 3, 4]


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_short_writes_are_gone_on_with(folder, inbox, piece, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:piece]))
    inbox.append(lines(1, 3), STAMP)
    assert content(folder) == b"".join(lines(1, 3))


@pytest.mark.parametrize("protected", [True, False])
def test_after_a_failed_sync_the_bytes_are_written_again_and_not_just_synced(folder, inbox, protected, monkeypatch):
    inbox.append(lines(1), STAMP)
    with pytest.MonkeyPatch.context() as patch:

        def fail(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input"):
            inbox.append(lines(2), STAMP)
    if not protected:
        inbox._doubtful = None
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(bytes(data)) or real(fd, data))
    assert inbox.recover(1, STAMP).seq == 2
    assert written == ([lines(2)[0]] if protected else [])
    assert content(folder) == b"".join(lines(1, 2))


def test_an_append_is_on_the_disk_before_it_returns(folder, inbox, monkeypatch):
    done = []
    for name in ("fdatasync", "fsync"):
        real = getattr(os, name)

        def note(fd: int, name: str = name, real=real) -> None:
            done.append((name, "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else os.fstat(fd).st_size))
            real(fd)

        monkeypatch.setattr(os, name, note)
    inbox.append(lines(1), STAMP)
    size = len(lines(1)[0])
    assert done == [("fdatasync", size), ("fsync", "folder")]  # a new file has a new name too
    inbox.append(lines(2), STAMP)
    assert done[2:] == [("fdatasync", size * 2)]


def test_recent_lines_come_newest_first_and_reach_into_the_last_part(folder):
    inbox = Inbox(folder, rotate_at=sum(map(len, lines(1, 3))))
    for seq in range(1, 9):
        inbox.append(lines(seq), STAMP)
    assert [found.seq for found in inbox.recent()] == [8, 7, 6, 5, 4]
    limit = 3 * len(lines(1)[0])
    assert [found.seq for found in inbox.recent(limit)] == [8, 7, 6]
    assert list(Inbox(folder, rotate_at=1).recent(0)) == []


def test_recent_lines_of_no_inbox_are_none(inbox):
    assert list(inbox.recent()) == []


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=12), st.integers(1, 20))
def test_backward_is_forward_turned_round_whatever_the_block(tmp_path_factory, texts, block):
    path = tmp_path_factory.getbasetemp() / "backward"
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        patch.setattr(inboxes, "_BLOCK", block)
        found = list(inboxes._backward(file.fileno(), path.stat().st_size))
    assert found == [text for text in reversed(texts) if text]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 5), max_size=5), st.integers(0, 400), st.integers(1, 64))
def test_a_file_cut_anywhere_and_gone_on_with_has_every_line_once(tmp_path_factory, batches, cut, block):
    from nexusd.spool.layout import SessionFolder  # noqa: PLC0415

    made = SessionFolder(str(tmp_path_factory.mktemp("cut")), "chat")
    made.make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inboxes, "_BLOCK", block)
        inbox, seq = Inbox(made, rotate_at=1 << 30), 0
        for count in batches:
            inbox.append(lines(seq + 1, count), STAMP)
            seq += count
            os.truncate(made.inbox, max(0, os.stat(made.inbox).st_size - cut))  # the machine lost its power
            inbox = Inbox(made, rotate_at=1 << 30)
            seq = inbox.recover(0, STAMP).seq
    if seq:
        assert content(made) == b"".join(lines(1, seq))


@pytest.mark.parametrize("after", [True, False])
def test_the_tail_tells_of_a_restart_and_leaves_out_what_was_before_it(folder, after):
    told = line.render(line.restart(3, "the server restarted"), seq=2, session="chat", received_at=STAMP)
    newer = lines(3) if after else []
    Inbox(folder, rotate_at=1 << 20).append([*lines(1), told, *newer], STAMP)
    tail = Inbox(folder, rotate_at=1 << 20).recover(0, STAMP)
    assert (tail.seq, tail.epoch, tail.cursor) == (3 if after else 2, 3, 30 if after else None)
    assert Inbox(folder, rotate_at=1 << 20).recover(2, STAMP).epoch is None


@pytest.mark.parametrize("named", ["7", "gap-restart-", "gap-restart-x", "xgap-restart-7", "bounced-7"])
def test_no_other_notice_tells_of_a_restart(folder, named):
    said = line.render(line.notice("gap", named, "some words"), seq=1, session="chat", received_at=STAMP)
    Inbox(folder, rotate_at=1 << 20).append([said], STAMP)
    assert Inbox(folder, rotate_at=1 << 20).recover(0, STAMP).epoch is None
