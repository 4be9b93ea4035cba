"""Where a dropped file is, asked by another process while the daemon moves it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nexusd.spool import dropping
from nexusd.spool.dropping import Drop

MOVER = """
import os, sys
folder = sys.argv[1]
sending = os.path.join(folder, ".nexusd", "sending")
for line in sys.stdin:
    name = line.strip()
    claim = os.path.join(sending, name)
    os.mkdir(claim)
    os.rename(os.path.join(folder, "outbox", name), os.path.join(claim, name))
    os.rename(os.path.join(claim, name), os.path.join(folder, ("sent", "failed")[int(name) % 2], name))
    os.rmdir(claim)
"""


def test_a_drop_is_found_in_each_of_its_places(folder):
    dropped = dropping.drop(folder.path, "hello")
    assert dropped.place() == "outbox"
    claim = os.path.join(folder.sending, "01JX")
    os.mkdir(claim)
    os.rename(os.path.join(folder.outbox, dropped.name), os.path.join(claim, dropped.name))
    assert dropped.place() == "sending"
    for place in ("sent", "failed"):
        os.rename(os.path.join(claim, dropped.name), os.path.join(folder.path, place, dropped.name))
        assert dropped.place() == place
        os.rename(os.path.join(folder.path, place, dropped.name), os.path.join(claim, dropped.name))
    assert not dropped.cancelled()
    os.unlink(os.path.join(claim, dropped.name))
    assert dropped.place() is None
    assert dropped.cancelled()
    assert dropped.settled(timeout=3600) is False  # at once: nothing will come


def test_case_197_a_file_on_its_way_is_never_taken_for_a_deleted_one(folder):
    with subprocess.Popen([sys.executable, "-u", "-c", MOVER, folder.path], stdin=subprocess.PIPE, text=True) as mover:
        for n in range(3000):
            dropped = Drop(folder.path, str(n))
            with open(os.path.join(folder.outbox, dropped.name), "w") as file:
                file.write("hello")
            print(n, file=mover.stdin, flush=True)
            place = None
            while place not in ("sent", "failed"):
                place = dropped.place()
                assert place is not None, f"file {n} was taken for deleted"
        mover.stdin.close()


@pytest.mark.parametrize("shut", ["sent", "failed"])
def test_a_file_whose_end_may_not_be_looked_at_is_not_told_as_deleted_and_no_fault(folder, monkeypatch, shut):
    dropped = dropping.drop(folder.path, "hello")
    place = os.path.join(folder.path, shut)
    os.rename(os.path.join(folder.outbox, dropped.name), os.path.join(place, dropped.name))
    real, lexists, access = open, os.path.lexists, os.access

    def refusing(path, *given, **more):
        if str(path).startswith(place):
            raise PermissionError(13, "denied", path)
        return real(path, *given, **more)

    monkeypatch.setattr("builtins.open", refusing)
    monkeypatch.setattr(os.path, "lexists", lambda path: not path.startswith(place) and lexists(path))
    monkeypatch.setattr(os, "access", lambda path, mode: path != place and access(path, mode))
    assert (dropped.receipt(), dropped.error()) == (None, None)
    assert not dropped.cancelled()
    monkeypatch.undo()
    assert dropped.place() == shut
