from __future__ import annotations

import os
import stat

import pytest

from nexusd.errors import UserError
from nexusd.spool import layout
from nexusd.spool.layout import SessionFolder


@pytest.mark.parametrize("name", ["a", "research", "0", "a.b_c-d", "x" * 64, "daemon", "daemon.jsonl"])
def test_a_session_may_be_called(name):
    assert layout.NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".nexusd", "-x", "_x", "A", "a/b", "a b", "é", "x" * 65, "a\n", "a\0", "../x", "daemon.json"],
)
def test_a_session_may_not_be_called(name):
    assert not layout.NAME.fullmatch(name)


@pytest.mark.parametrize("name", [".x", ".x.tmp", "x~", "x.tmp", "x.part", "x.swp", "x.crdownload", "..", ".", "~"])
def test_a_name_says_that_somebody_is_at_work(name):
    assert layout.is_unfinished(name)


@pytest.mark.parametrize("name", ["x", "x.txt", "tmp", "x.tmp.txt", "part", "~x", "x.TMP", "x.json", "-", "x."])
def test_any_other_name_is_a_message(name):
    assert not layout.is_unfinished(name)


def test_everything_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        made = SessionFolder(str(tmp_path / "new" / "root"), "chat")
        made.make()
    finally:
        os.umask(before)
    for path in (made.root, made.path, made.outbox, made.sent, made.failed, made.own, made.sending):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_what_is_there_is_left_as_it_is(folder):
    open(os.path.join(folder.outbox, "x"), "w").close()
    os.chmod(folder.outbox, 0o500)
    folder.make()
    assert stat.S_IMODE(os.stat(folder.outbox).st_mode) == 0o500
    assert os.listdir(folder.outbox) == ["x"]


def test_all_places_are_where_the_contract_says(folder):
    inside = {
        folder.inbox: "inbox.jsonl",
        folder.rotated_inbox(17): "inbox-17.jsonl",
        folder.damaged_inbox("S"): "inbox.damaged-S",
        folder.outbox: "outbox",
        folder.sent: "sent",
        folder.failed: "failed",
        folder.view: "session.json",
        folder.state: ".nexusd/state.json",
        folder.sending: ".nexusd/sending",
    }
    for path, name in inside.items():
        assert os.path.relpath(path, folder.path) == name
    assert layout.lock_file("/r") == "/r/.nexusd/lock"
    assert layout.report_file("/r") == "/r/daemon.json"


def test_a_name_of_the_longest_length_still_has_room_for_its_receipt():
    for suffix in (layout.RECEIPT, layout.ERROR):
        assert layout.LONGEST_NAME + len(".999999") + len(suffix) <= 255


@pytest.mark.parametrize("place", ["sent", "failed", "sending"])
def test_case_78_places_on_different_file_systems_are_refused(tmp_path, monkeypatch, place):
    folder = SessionFolder(str(tmp_path), "chat")
    folder.make()
    folder.check()
    real = os.stat

    def elsewhere(path: str) -> os.stat_result:
        found = list(real(path))
        found[2] += path == getattr(folder, place)  # st_dev
        return os.stat_result(found)

    monkeypatch.setattr(layout.os, "stat", elsewhere)
    with pytest.raises(UserError, match="another file system") as refused:
        folder.check()
    assert refused.value.code == "other_file_system"


def test_a_folder_is_mended_but_never_made_anew_where_it_is_not(tmp_path):
    """Else something would stand under the mount of a volume that was taken away in this moment."""
    folder = SessionFolder(str(tmp_path / "root"), "chat")
    with pytest.raises(FileNotFoundError):
        folder.mend()
    assert list(tmp_path.iterdir()) == []
    folder.make()
    for name in ("outbox", "sent", ".nexusd/sending"):
        (tmp_path / "root" / "chat" / name).rmdir()
    folder.mend()
    assert stat.S_IMODE(os.stat(folder.sending).st_mode) == stat.S_IMODE(os.stat(folder.outbox).st_mode) == 0o700
