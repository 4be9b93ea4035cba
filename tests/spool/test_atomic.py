"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from nexusd.spool import atomic


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def path(tmp_path) -> str:
    atomic.replace(str(tmp_path / "file"), b"old")
    return str(tmp_path / "file")


def content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_a_file_is_replaced_whole_and_private(path):
    before = os.umask(0)
    try:
        atomic.replace(path, b"new")
    finally:
        os.umask(before)
    assert content(path) == b"new"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_no_litter(path, step, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        atomic.replace(path, b"new")
    assert content(path) == b"old"
    assert os.listdir(os.path.dirname(path)) == ["file"]


def test_the_data_is_on_the_disk_before_the_name_and_the_name_before_the_end(path, monkeypatch):
    done = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"data {os.fstat(fd).st_size}")
        real_fsync(fd)

    def replace(*paths: str) -> None:
        done.append("rename")
        real_replace(*paths)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    atomic.replace(path, b"new")
    assert done == ["data 3", "rename", "folder"]
    done.clear()
    atomic.replace(path, b"newer", durable=False)
    assert done == ["rename"]


def test_a_link_is_replaced_and_not_followed(path, tmp_path):
    link = str(tmp_path / "link")
    os.symlink(path, link)
    atomic.replace(link, b"new")
    assert content(path) == b"old"
    assert not os.path.islink(link)
    assert content(link) == b"new"


def test_no_name_in_the_way_is_followed_or_overwritten(path, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "urandom", bytes)
    in_the_way = tmp_path / f".{bytes(8).hex()}.tmp"
    in_the_way.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        atomic.replace(path, b"new")
    assert in_the_way.read_bytes() == b"mine"
    assert content(path) == b"old"


def test_a_bare_name_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atomic.replace("bare", b"x")
    assert (tmp_path / "bare").read_bytes() == b"x"


def test_a_small_file_is_read_up_to_a_limit(path, tmp_path):
    assert atomic.read_small(path) == b"old"
    assert atomic.read_small(path, 2) == b"ol"
    assert atomic.read_small(str(tmp_path / "none")) is None
    assert atomic.read_small(path + "/below") is None


def test_neither_a_link_nor_a_pipe_is_followed(path, tmp_path):
    os.symlink(path, tmp_path / "link")
    with pytest.raises(OSError, match="symbolic links"):
        atomic.read_small(str(tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")
    assert not atomic.read_small(str(tmp_path / "pipe"))


def test_two_that_make_the_same_folder_do_not_disturb_each_other(tmp_path, monkeypatch):
    path = str(tmp_path / "a" / "b")
    real = os.mkdir

    def race(name: str, mode: int) -> None:
        real(name, mode)
        real(name, mode)  # the other one was first

    monkeypatch.setattr(os, "mkdir", race)
    atomic.private_folder(path)
    assert os.path.isdir(path)


def test_what_goes_wrong_in_a_held_folder_is_told_of_the_folder_itself(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory") as met, atomic.held_folder(str(tmp_path)) as held:
        os.replace(os.path.join(held, "nothing"), os.path.join(held, "a"))
    assert (met.value.filename, met.value.filename2) == (f"{tmp_path}/nothing", f"{tmp_path}/a")


def test_on_a_full_disk_a_view_that_was_never_there_is_a_full_disk_and_no_absence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full", str(tmp_path / "view"))

    monkeypatch.setattr(atomic, "replace", full)
    with pytest.raises(OSError, match="full"):
        atomic.replace_or_overwrite(str(tmp_path / "view"), b"{}")
