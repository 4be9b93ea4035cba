"""The root is held also where nobody can tell whose sessions are in it."""

from __future__ import annotations

import os

import pytest

from nexusd import root as roots
from nexusd.clientdir import ClientDir
from nexusd.errors import RootLocked, UserError
from nexusd.root import NotThisRoot, Root, second_report
from nexusd.spool import layout, rootlock
from nexusd.spool.layout import SessionFolder

ID = "5e" * 24


@pytest.fixture
def served(tmp_path):
    """The paths of a root that was served, and of its client_dir."""
    root, client = str(tmp_path / "nexus"), str(tmp_path / "client")
    ClientDir(client).save(ID, agent="me")
    first = Root(root, client)
    first.hold()
    first.close()
    SessionFolder(root, "chat").make()
    return root, client


def taken_away(client, how, patch):
    if how == "moved":
        os.rename(client, f"{client}-away")
    else:
        patch.setattr(ClientDir, "is_there", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied", client)))


@pytest.mark.parametrize("how", ["moved", "shut"])
def test_without_the_records_a_daemon_is_seen_to_run_and_no_second_one_starts(served, monkeypatch, how):
    root, client = served
    with monkeypatch.context() as patch:
        taken_away(client, how, patch)
        holding, second = Root(root, client), Root(root, client)
        with pytest.raises((UserError, PermissionError)):
            holding.hold()
        assert rootlock.holder(root) == os.getpid()
        with pytest.raises(RootLocked):
            second.hold()
        holding.write_report(b"{}")
        assert os.path.exists(layout.report_file(root))
    if how == "moved":
        os.rename(f"{client}-away", client)
    holding.hold()
    assert holding.held
    assert not os.path.exists(second_report(root, client))
    holding.close()


def test_a_root_that_was_held_without_the_records_is_let_go_if_it_turns_out_to_be_another_one(served):
    root, client = served
    os.rename(client, f"{client}-away")
    with open(layout.root_id_file(root), "w") as file:
        file.write("another\n")
    holding = Root(root, client)
    with pytest.raises(UserError, match="bring it back"):
        holding.hold()
    os.rename(f"{client}-away", client)
    with pytest.raises(NotThisRoot):
        holding.hold()
    assert not holding.held
    assert rootlock.holder(root) is None


def test_an_empty_folder_without_the_records_is_not_written_to(tmp_path, monkeypatch):
    root, client = str(tmp_path / "nexus"), str(tmp_path / "client")
    os.mkdir(root)
    taken_away(client, "shut", monkeypatch)
    with pytest.raises(PermissionError):
        Root(root, client).hold()
    assert os.listdir(root) == []
    assert roots.has_sessions(root) is False
