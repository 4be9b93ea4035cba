"""Which daemon serves which session."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from nexusd import serving
from nexusd.clientdir import ClientDir
from nexusd.serving import Serving

A, B = "5e" * 24, "6f" * 24

OTHER = """
import sys
from nexusd.clientdir import ClientDir
from nexusd.serving import Serving
other = Serving(ClientDir(sys.argv[1]))
print(*(other.take(session, "/other") for session in sys.argv[2:]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def client_dir(tmp_path) -> ClientDir:
    return ClientDir(str(tmp_path / "client"))


@pytest.fixture
def other(client_dir):
    """Another daemon: other("id") says what it could take and goes on holding that."""
    running = []

    def start(*sessions: str) -> list[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, client_dir.path, *sessions],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process.stdout.readline().split()

    start.running = running
    yield start
    for process in running:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_two_daemons_do_not_serve_one_session(client_dir, other):
    assert other(A) == ["True"]
    mine = Serving(client_dir)
    assert mine.take(A, "/mine") is False
    assert mine.take(B, "/mine") is True
    assert other(A, B) == ["False", "False"]
    mine.close()


def test_who_lost_does_not_move_the_pointer(client_dir, other):
    other(A)
    Serving(client_dir).take(A, "/mine")
    assert serving.folder(client_dir, A) == "/other"


def test_a_session_that_was_let_go_can_be_taken(client_dir, other):
    mine = Serving(client_dir)
    mine.take(A, "/mine")
    mine.take(B, "/mine")
    mine.release(A)
    assert other(A, B) == ["True", "False"]
    mine.close()
    assert other(B) == ["True"]


def test_a_daemon_that_was_killed_holds_nothing(client_dir, other):
    other(A)
    assert serving.is_served(client_dir, A)
    other.running[0].kill()
    other.running[0].wait()
    assert not serving.is_served(client_dir, A)
    assert Serving(client_dir).take(A, "/mine") is True


def test_who_asks_is_told_of_each_session_for_itself(client_dir):
    assert not serving.is_served(client_dir, A)  # there is not even a folder yet
    mine = Serving(client_dir)
    mine.take(A, "/mine")
    assert serving.is_served(client_dir, A)
    assert not serving.is_served(client_dir, B)
    mine.close()
    assert not serving.is_served(client_dir, A)


def test_the_pointer_says_where_a_session_is_read_whether_or_not_it_is_served(client_dir):
    assert serving.folder(client_dir, A) is None
    mine = Serving(client_dir)
    for folder in ("/root/one", "/root/two words\n and more", "/root/\udcff", "/root/é"):
        mine.take(A, folder)
        assert serving.folder(client_dir, A) == folder
    mine.close()
    assert serving.folder(client_dir, A) == "/root/é"


def test_all_folders_are_known_by_their_names(client_dir):
    mine = Serving(client_dir)
    mine.take(A, "/root/research")
    mine.take(B, "/root/chat")
    client_dir.save("7a" * 24, agent="me")
    assert serving.folders(client_dir) == {"research": "/root/research", "chat": "/root/chat"}
    mine.close()


@pytest.mark.parametrize("session", ["", "../../../etc", "short", "a/b" * 10])
def test_what_is_no_id_points_nowhere(client_dir, session):
    assert serving.folder(client_dir, session) is None


def test_what_is_written_is_private_and_a_link_is_not_followed(client_dir, tmp_path):
    mine = Serving(client_dir)
    mine.take(A, "/mine")
    for path in (os.path.join(client_dir.path, "nexusd.lock"), os.path.join(client_dir.path, "sessions", A, "nexusd")):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    mine.close()
    os.unlink(os.path.join(client_dir.path, "nexusd.lock"))
    os.symlink(tmp_path / "elsewhere", os.path.join(client_dir.path, "nexusd.lock"))
    with pytest.raises(OSError, match="symbolic links"):
        Serving(client_dir)


def test_places_in_the_lock_file_do_not_meet():
    places = {serving._offset(f"{n:048x}") for n in range(10_000)}
    assert len(places) == 10_000
    assert max(places) < 2**63


ASKING = """
import sys
from nexusd.clientdir import ClientDir
from nexusd.serving import is_served
print("asking", flush=True)
while True:
    is_served(ClientDir(sys.argv[1]), sys.argv[2])
"""


def test_case_195_whoever_asks_is_not_in_the_way_of_a_daemon_that_takes_the_session(client_dir):
    mine = Serving(client_dir)
    with subprocess.Popen([sys.executable, "-c", ASKING, client_dir.path, A], stdout=subprocess.PIPE) as asking:
        try:
            assert asking.stdout.readline() == b"asking\n"
            for _ in range(5000):
                assert mine.take(A, "/mine")
                mine.release(A)
            assert asking.poll() is None
        finally:
            asking.kill()
    mine.close()


def test_case_195_a_daemon_that_asks_keeps_what_it_holds(client_dir, other):
    mine = Serving(client_dir)
    mine.take(A, "/mine")
    assert serving.is_served(client_dir, A)
    assert not serving.is_served(client_dir, B)
    assert other(A, B) == ["False", "True"]
    assert serving.is_served(client_dir, B)
    mine.close()


def test_asking_makes_no_file(client_dir):
    os.mkdir(client_dir.path)
    assert not serving.is_served(client_dir, A)
    assert os.listdir(client_dir.path) == []


def test_a_daemon_of_an_earlier_version_is_seen_and_keeps_its_sessions(client_dir):
    Serving(client_dir).close()
    earlier = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, int(sys.argv[2]))\nprint('held', flush=True)\nsys.stdin.read()"
    )
    path = os.path.join(client_dir.path, "nexusd.lock")
    with subprocess.Popen(
        [sys.executable, "-c", earlier, path, str(serving._offset(A))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        assert serving.is_served(client_dir, A)
        assert Serving(client_dir).take(A, "/mine") is False
        process.stdin.close()


@pytest.mark.parametrize("odd", [os.mkdir, lambda path: os.symlink("/", path), lambda path: os.symlink("x", path)])
def test_a_pointer_that_is_no_file_points_nowhere(client_dir, odd):
    client_dir.save(A, agent="me")
    odd(os.path.join(client_dir.path, "sessions", A, serving.POINTER))
    assert serving.folder(client_dir, A) is None
    assert serving.folders(client_dir) == {}
