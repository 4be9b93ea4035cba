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


def is_served(client_dir: ClientDir, session: str) -> bool:
    """As another process sees it: the daemon itself must not ask."""
    code = "import sys; from nexusd.clientdir import ClientDir; from nexusd.serving import is_served; "
    code += "print(is_served(ClientDir(sys.argv[1]), sys.argv[2]))"
    ran = subprocess.run(
        [sys.executable, "-c", code, client_dir.path, session], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip() == "True"


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
    assert is_served(client_dir, A)
    other.running[0].kill()
    other.running[0].wait()
    assert not is_served(client_dir, A)
    assert Serving(client_dir).take(A, "/mine") is True


def test_who_asks_is_told_of_each_session_for_itself(client_dir):
    assert not is_served(client_dir, A)  # there is not even a folder yet
    mine = Serving(client_dir)
    mine.take(A, "/mine")
    assert is_served(client_dir, A)
    assert not is_served(client_dir, B)
    mine.close()
    assert not is_served(client_dir, A)


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
