"""A command that is stopped, or whose file is deleted, while its message is on the way: what it leaves and says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from nexusd.cli import stopping
from nexusd.cli.hand import dropping
from nexusd.cli.hand.dropping import deliver
from nexusd.errors import UserError
from nexusd.spool import dropping as drops
from tests.cli.test_outbox import Daemon
from tests.world import until

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
COMMANDS = [("send",), ("ask",), ("ask", "--timeout", "1h")]


@pytest.fixture
def daemon(nexus, room, tmp_path):
    playing = Daemon(nexus, room, tmp_path / "root" / "research")
    yield playing
    playing.close()


def files(daemon) -> list[str]:
    return [name for name in os.listdir(daemon.folder / "outbox") if not name.startswith(".")]


def started(nexus, daemon, *words: str) -> subprocess.Popen:
    """The command, with its message in the outbox."""
    command, *options = words
    process = nexus.start(command, "room", "hello", *options)
    until(lambda: files(daemon) or daemon.dropped or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def ended(process: subprocess.Popen) -> tuple[int, dict, str]:
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert out.count(b"\n") == 1, (out, err)
    return process.returncode, json.loads(out), err.decode()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_case_186_what_no_daemon_has_claimed_is_taken_back_and_that_is_said(nexus, daemon, number, command):
    process = started(nexus, daemon, *command)
    process.send_signal(number)
    status, shown, err = ended(process)
    assert (status, shown["error"], files(daemon)) == (128 + number, "not_sent", [])
    assert number.name in shown["message"]
    assert "taken back" in err


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_case_186_what_the_daemon_has_claimed_stays_there_and_that_is_said(nexus, daemon, number, command):
    daemon.handle(lambda name: None)
    process = started(nexus, daemon, *command)
    ((name, _),) = until(lambda: daemon.dropped)
    process.send_signal(number)
    status, shown, err = ended(process)
    assert (status, shown) == (128 + number, {"status": "queued", "file": name})
    assert "the daemon has it" in err
    assert number.name in err
    assert os.listdir(daemon.claimed) == [name]


@pytest.mark.parametrize("number", SIGNALS)
def test_case_186_ask_that_is_stopped_while_it_waits_for_the_answer_says_that_it_was_sent(nexus, daemon, number):
    daemon.handle(daemon.accept)
    process = started(nexus, daemon, "ask")
    until(lambda: [n for n in os.listdir(daemon.folder / "sent") if not n.endswith(".receipt.json")])
    process.send_signal(number)
    status, shown, err = ended(process)
    assert status == 128 + number
    assert shown.get("receipt", shown)["id"] == "msg_1"  # the signal may come before the receipt was seen
    assert "sent" in err
    assert number.name in err


def test_case_186_a_hangup_that_is_to_be_ignored_is_ignored(nexus, daemon):
    nexus_ignoring = [sys.executable, "-c", "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"]
    nexus_ignoring[-1] += "os.execv(sys.executable, [sys.executable, '-m', 'nexusd.cli.nexus', *sys.argv[1:]])"
    with subprocess.Popen(
        [*nexus_ignoring, "send", "room", "hello"], env=nexus.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until(lambda: files(daemon))
        process.send_signal(signal.SIGHUP)
        daemon.handle(daemon.accept)
        status, shown, _ = ended(process)
    assert (status, shown["id"]) == (0, "msg_1")


@pytest.fixture
def folder(tmp_path):
    for place in ("outbox", "sent", "failed", ".nexusd/sending"):
        (tmp_path / place).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_case_186_a_signal_in_the_moment_behind_the_drop_takes_it_back_too(folder, monkeypatch, number, timeout):
    real = drops.drop

    def dropped(*given):
        made = real(*given)
        signal.raise_signal(number)
        return made

    monkeypatch.setattr(drops, "drop", dropped)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with stopping.Held() as held:
        outcome = deliver(held, str(folder), "hello", None, timeout)
    assert (outcome.status, outcome.shown["error"]) == (128 + number, "not_sent")
    assert os.listdir(folder / "outbox") == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert not signal.sigpending() & set(SIGNALS)


def test_a_second_signal_does_not_end_it_before_it_is_said(folder):
    with stopping.Held() as held:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        outcome = deliver(held, str(folder), "hello", None, 60)
    assert outcome.shown["error"] == "not_sent"  # and we are still there


def test_a_signal_where_nothing_can_be_dropped_does_not_hide_why(folder):
    (folder / "outbox").rmdir()
    with pytest.raises(UserError), stopping.Held() as held:  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        deliver(held, str(folder), "hello", None, 60)


def test_case_186_a_signal_that_comes_too_late_does_not_hide_the_receipt(folder):
    def accepted() -> None:
        (name,) = os.listdir(folder / "outbox")
        (folder / "sent" / f"{name}.receipt.json").write_text('{"id": "msg_1"}')

    with Scripted(accepted) as held:
        outcome = deliver(held, str(folder), "hello", None, 60)
        signal.raise_signal(signal.SIGTERM)
    assert (outcome.status, outcome.shown) == (0, {"id": "msg_1"})  # and we are still there


def test_what_cannot_be_taken_back_is_said_to_be_there_still(folder, monkeypatch):
    def refused(_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dropping.dropping.Drop, "take_back", refused)
    with stopping.Held() as held:
        outcome = deliver(held, str(folder), "hello", None, 0)
    assert (outcome.status, outcome.shown["error"]) == (1, "not_taken_back")
    assert outcome.shown["file"] in os.listdir(folder / "outbox")
    assert "may be sent later" in outcome.sentence


# ---- somebody deletes the file


@pytest.mark.parametrize("command", COMMANDS)
def test_case_197_a_file_that_somebody_deletes_from_the_outbox_is_cancelled(nexus, daemon, command):
    process = started(nexus, daemon, *command)
    (name,) = files(daemon)
    os.unlink(daemon.folder / "outbox" / name)
    status, shown, err = ended(process)
    assert (status, shown["error"], shown["file"]) == (1, "cancelled", name)
    assert "deleted" in err


class Scripted(stopping.Held):
    """Does one thing after another instead of pausing."""

    def __init__(self, *steps) -> None:
        super().__init__()
        self.steps = list(steps)

    def pause(self, seconds: float) -> bool:
        if self.steps:
            self.steps.pop(0)()
        return super().pause(0)


def test_case_197_a_file_that_somebody_deletes_when_it_is_claimed_is_cancelled_with_a_doubt(folder):
    claim = folder / ".nexusd" / "sending" / "01JTESTCLAIM"
    claim.mkdir()

    def claimed() -> None:
        (name,) = os.listdir(folder / "outbox")
        os.rename(folder / "outbox" / name, claim / name)

    def deleted() -> None:
        os.unlink(claim / os.listdir(claim)[0])

    with Scripted(claimed, lambda: None, deleted) as held:
        outcome = deliver(held, str(folder), "hello", None, 60)
    assert (outcome.status, outcome.shown["error"]) == (1, "cancelled")
    assert "may have been sent" in outcome.sentence


def test_case_197_what_is_deleted_by_the_time_that_the_wait_is_over_is_cancelled_too(folder, monkeypatch):
    real = drops.Drop.take_back

    def deleted_first(dropped) -> bool:
        real(dropped)
        return real(dropped)

    monkeypatch.setattr(drops.Drop, "take_back", deleted_first)
    with stopping.Held() as held:
        outcome = deliver(held, str(folder), "hello", None, 0)
    assert (outcome.status, outcome.shown["error"]) == (1, "cancelled")


def test_case_197_where_the_daemons_own_folder_cannot_be_looked_into_nothing_is_called_cancelled(folder):
    (folder / ".nexusd" / "sending").rmdir()
    with stopping.Held() as held:
        dropped = drops.drop(str(folder), "hello")
        os.unlink(folder / "outbox" / dropped.name)
        assert not dropped.settled(0.05, held.pause)
        assert not dropped.cancelled()
        assert dropped.place() == "sending"


# ---- what a server gives only once

GIVEN = {"sessionId": "5e" * 24, "sessionKey": "k" * 43, "agentId": "me"}
ACQUIRING = [
    ("claim", "WORD-WORD-12345", "--agent-id", "me"),
    ("join", GIVEN["sessionId"], "--agent-id", "me"),
    ("create", "--creator-agent-id", "me"),
]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("words", ACQUIRING, ids=[words[0] for words in ACQUIRING])
def test_case_186_what_a_server_gives_only_once_is_kept_before_a_signal_ends_the_command(
    nexus, answering, number, words
):
    answering.answer(200, GIVEN)
    answering.open.clear()
    process = nexus.start(*words, "--url", answering.url)
    until(lambda: answering.asked)
    process.send_signal(number)
    said = process.stderr.readline()
    while said and number.name.encode() not in said:
        said = process.stderr.readline()
    assert b"once more ends it at once" in said
    answering.open.set()
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert json.loads(out)["sessionId"] == GIVEN["sessionId"]
    assert nexus.file("sessions", GIVEN["sessionId"], "key") == GIVEN["sessionKey"] + "\n"


def test_a_second_signal_ends_at_once_what_waits_for_a_server(nexus, answering):
    answering.answer(200, GIVEN)
    answering.open.clear()
    process = nexus.start(*ACQUIRING[0], "--url", answering.url)
    until(lambda: answering.asked)
    process.send_signal(signal.SIGTERM)
    until(lambda: b"once more" in process.stderr.readline())
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-signal.SIGTERM, b"")
