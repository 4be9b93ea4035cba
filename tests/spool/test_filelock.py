"""Locks that belong to an open file, and asking for them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from nexusd.spool import filelock


@pytest.fixture
def opened(tmp_path):
    """Opens the file once more: opened()."""
    fds = []

    def again(flags: int = os.O_RDWR) -> int:
        fds.append(os.open(tmp_path / "lock", flags | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return fds[-1]

    yield again
    for fd in fds:
        os.close(fd)


def test_two_open_files_of_one_process_keep_each_other_out(opened):
    one, two = opened(), opened()
    assert filelock.take(one, 5, 1)
    assert filelock.take(one, 5, 1)  # it has it
    assert not filelock.take(two, 5, 1)
    assert filelock.take(two, 6, 1)
    filelock.release(one, 5, 1)
    assert filelock.take(two, 5, 1)


def test_case_195_asking_sees_who_has_it_and_takes_nothing(opened):
    one, asking = opened(), opened(os.O_RDONLY)
    assert not filelock.is_taken(asking, 5, 1)
    assert filelock.take(one, 5, 1)
    assert filelock.is_taken(asking, 5, 1)
    assert filelock.is_taken(asking, 0, 0)  # to the end of the file
    assert not filelock.is_taken(asking, 6, 1)
    assert not filelock.is_taken(one, 5, 1)  # its own


def test_case_195_closing_another_descriptor_of_the_file_lets_nothing_go(opened, tmp_path):
    one = opened()
    assert filelock.take(one, 5, 1)
    os.close(os.open(tmp_path / "lock", os.O_RDWR))
    assert filelock.is_taken(opened(), 5, 1)


def test_a_program_that_we_start_does_not_inherit_it(opened):
    one = opened()
    assert filelock.take(one, 5, 1)
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        os.dup2(os.open(os.devnull, os.O_RDWR), one, inheritable=False)
        assert not filelock.is_taken(opened(), 5, 1)
        child.stdin.close()


def test_record_locks_are_seen_too(opened):
    fcntl.lockf(opened(), fcntl.LOCK_EX, 1, 5)
    assert filelock.is_taken(opened(), 5, 1)
    assert not filelock.take(opened(), 5, 1)
