"""An error of this machine names the place that it is about, and what mends it; never a secret id."""

from __future__ import annotations

import errno
import os

import pytest

from nexusd.local_fault import sentence
from nexusd.spool import atomic

ROOT = "/srv/nexus/chat"


def fault(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), names[0] if names else None, None, *names[1:])


@pytest.mark.parametrize(
    ("names", "where"),
    [
        ([], ROOT),
        ([ROOT], ROOT),
        ([f"{ROOT}/outbox"], f"{ROOT}/outbox"),
        ([f"{ROOT}/.5e.tmp", f"{ROOT}/state.json"], f"{ROOT}/state.json"),
        (["/proc/self/fd/9/x"], ROOT),
        (["/home/me/.config/messaging/nexusd.lock"], "/home/me/.config/messaging/nexusd.lock"),
        (["/etc/ssl/ours.pem"], "/etc/ssl/ours.pem"),
        ([f"/home/me/.config/messaging/sessions/{'5e' * 24}/key"], "/home/me/.config/messaging"),
    ],
)
def test_it_names_the_place_that_it_is_about(names, where):
    said = sentence(fault(errno.EROFS, *names), ROOT)
    assert said.startswith(f"{where}: the file system is read-only; ")
    assert said.endswith(f"findmnt -T {where if not where.startswith(ROOT) else ROOT}")


def test_a_file_where_a_folder_should_be_is_named_and_not_called_absent(tmp_path):
    (tmp_path / "sending").write_text("")
    with pytest.raises(NotADirectoryError) as met:
        os.listdir(tmp_path / "sending" / "x")
    wrong = tmp_path / "sending"
    assert sentence(met.value, str(tmp_path)) == f"{wrong}: it is no folder; move it away: mv {wrong} {wrong}.old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
def test_nothing_is_advised_for_what_lies_round_a_file_that_is_not_ours(tmp_path, number):
    """`chown -R /etc/ssl` for one file in it would be worse than the fault."""
    path = f"{tmp_path}/ours.pem"
    words = sentence(fault(number, path), ROOT).split()
    assert str(tmp_path) not in words
    assert "mkdir" not in words


def test_what_was_taken_away_a_moment_ago_is_called_absent():
    assert ": it is not there; " in sentence(fault(errno.ENOTDIR, f"{ROOT}/outbox"), ROOT)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    path = f"{tmp_path}/state.json"
    os.mkdir(path)
    for use in (atomic.read_small, lambda path: atomic.replace(path, b"")):
        with pytest.raises(IsADirectoryError) as met:
            use(path)
        assert sentence(met.value, str(tmp_path)) == f"{path}: it is a folder; move it away: mv {path} {path}.old"


@pytest.mark.parametrize(("owner", "mend"), [(0, "chmod -R u+rwX"), (1, "chown -R")])
def test_what_is_ours_and_may_not_be_used_needs_other_rights_and_what_is_not_another_owner(
    tmp_path, monkeypatch, owner, mend
):
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + owner)
    assert f"; give it back: {mend} " in sentence(fault(errno.EACCES, f"{tmp_path}/outbox/x"), str(tmp_path))


@pytest.mark.parametrize("ours", [True, False])
def test_a_folder_on_the_way_that_lets_nobody_in_is_what_is_to_be_opened(tmp_path, monkeypatch, ours):
    shut = tmp_path / "shut"
    shut.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != str(shut))
    monkeypatch.setattr(os, "geteuid", lambda: os.lstat(shut).st_uid + (not ours))
    said = sentence(fault(errno.EACCES, f"{shut}/sessions"), f"{tmp_path}/nexus")
    assert said.endswith(f"chmod -R u+rwX {shut}" if ours else f"ls -ld {shut} says who may")


@pytest.mark.parametrize("path", ["/home/me/.config/messaging", ROOT])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("below", ["", "/key", "/agent/x"])
def test_no_id_is_named_and_nothing_is_advised_that_moves_all_records_away(path, number, below):
    client = "/home/me/.config/messaging"
    said = sentence(fault(number, f"{client}/sessions/{'5e' * 24}{below}"), path)
    assert said.startswith(f"{client}: ")
    assert "5e5e" not in said
    assert "mv /" not in said
    assert "mkdir" not in said


def test_a_folder_called_sessions_is_no_secret(tmp_path):
    path = "/srv/sessions/a-session-with-a-long-name"
    assert sentence(fault(errno.EROFS, f"{path}/outbox/x"), path).startswith(f"{path}/outbox/x: ")
