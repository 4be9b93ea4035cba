from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys

import pytest

from nexusd.errors import RootLocked
from nexusd.spool import layout
from nexusd.spool.rootlock import RootLock, holder


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "root")


def test_a_second_daemon_is_told_the_first_ones_pid(root):
    lock = RootLock(root)
    with pytest.raises(RootLocked, match=f"pid {os.getpid()}") as caught:
        RootLock(root)
    assert (caught.value.exit_status, caught.value.code) == (75, "root_locked")
    assert holder(root) == os.getpid()
    lock.close()


def test_a_root_that_was_let_go_can_be_taken_again(root):
    RootLock(root).close()
    assert holder(root) is None
    RootLock(root).close()


def test_a_lock_file_that_a_dead_daemon_left_is_no_lock(root):
    code = f"import os; from nexusd.spool.rootlock import RootLock; lock = RootLock({root!r}); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with open(layout.lock_file(root)) as file:
        assert file.readline().strip().isdigit()
    assert holder(root) is None
    lock = RootLock(root)
    assert holder(root) == os.getpid()
    lock.close()


def test_a_longer_pid_of_an_earlier_daemon_leaves_no_digits_behind(root):
    RootLock(root).close()
    with open(layout.lock_file(root), "w") as file:
        file.write("1234567890123\n")
    lock = RootLock(root)
    assert holder(root) == os.getpid()
    lock.close()


def test_a_lock_without_a_readable_pid_is_a_lock_all_the_same(root):
    lock = RootLock(root)
    with open(layout.lock_file(root), "w") as file:
        file.write("\xff?")
    with pytest.raises(RootLocked):
        RootLock(root)
    assert holder(root) == 0
    lock.close()


def test_a_link_in_place_of_the_lock_is_not_followed(root, tmp_path):
    os.makedirs(os.path.dirname(layout.lock_file(root)))
    os.symlink(tmp_path / "elsewhere", layout.lock_file(root))
    with pytest.raises(OSError, match="symbolic links"):
        RootLock(root)
    assert not (tmp_path / "elsewhere").exists()


def test_nobody_holds_a_root_that_is_not_there(root):
    assert holder(root) is None


ASKING = """
import sys
from nexusd.spool.rootlock import holder
print("asking", flush=True)
while True:
    holder(sys.argv[1])
"""

OTHER = """
import sys
from nexusd.spool.rootlock import RootLock
lock = RootLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_case_195_whoever_asks_for_the_holder_is_not_in_the_way_of_a_daemon_that_starts(root):
    RootLock(root).close()
    with subprocess.Popen([sys.executable, "-c", ASKING, root], stdout=subprocess.PIPE) as asking:
        try:
            assert asking.stdout.readline() == b"asking\n"
            for _ in range(5000):
                RootLock(root).close()
            assert asking.poll() is None
        finally:
            asking.kill()


def test_case_195_a_daemon_that_asks_for_the_holder_of_its_own_root_keeps_it(root):
    lock = RootLock(root)
    for _ in range(3):
        assert holder(root) == os.getpid()
    ran = subprocess.run([sys.executable, "-c", OTHER, root], capture_output=True, text=True, check=False)
    assert "RootLocked" in ran.stderr
    lock.close()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("7\n{host}\n{boot}\n", "(pid 7)"),
        ("7\nelsewhere\n{boot}\n", "(pid 7 on host elsewhere)"),
        ("7\n{host}\nanother-boot\n", "(pid 7 on host {host})"),
        ("7\n", "(pid 7)"),
        ("", "(pid unknown)"),
    ],
)
def test_the_holder_is_named_with_its_host_where_that_is_not_this_one(root, lines, said):
    lock = RootLock(root)
    with open(layout.lock_file(root)) as file:
        pid, host, boot = file.read().splitlines()
    assert (pid, host, len(boot)) == (str(os.getpid()), socket.gethostname(), 36)
    with open(layout.lock_file(root), "w") as file:
        file.write(lines.format(host=host, boot=boot))
    with pytest.raises(RootLocked) as caught:
        RootLock(root)
    assert said.format(host=host) in str(caught.value)
    lock.close()


def test_a_daemon_of_an_earlier_version_keeps_its_root(root):
    RootLock(root).close()
    with open(layout.lock_file(root)) as earlier:
        fcntl.flock(earlier, fcntl.LOCK_EX)
        with pytest.raises(RootLocked):
            RootLock(root)


def test_case_120_a_full_disk_at_the_first_start_locks_nobody_out_of_its_own_root(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = RootLock(str(tmp_path))
    monkeypatch.undo()
    with pytest.raises(RootLocked, match="pid unknown"):
        RootLock(str(tmp_path))
    lock.close()
    RootLock(str(tmp_path)).close()
