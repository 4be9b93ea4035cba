"""The log: one event one line, never a secret, never in the way."""

from __future__ import annotations

import io
import json
import os
import select
import sys

import pytest
import structlog

from nexusd import log as logs
from nexusd.secrets import Secrets

ID = "5e" * 24
FORMS = ("console", "logfmt", "json")


@pytest.fixture
def logger(monkeypatch):
    """Makes a log and gives it with what it wrote."""
    secrets = Secrets()
    secrets.add(ID)

    def make(form: str, level: str = "info"):
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        return logs.configure(level, form, secrets).bind(session="chat"), written

    yield make
    structlog.reset_defaults()


@pytest.mark.parametrize("form", FORMS)
def test_an_event_is_one_line_with_its_fields(logger, form):
    log, written = logger(form)
    log.info("outbox.sent", file="a.txt", attempts=2)
    assert written.getvalue().count("\n") == 1
    assert written.getvalue().endswith("\n")
    for word in ("outbox.sent", "chat", "a.txt", "2"):
        assert word in written.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_no_secret_is_logged_however_it_comes_in(logger, form):
    log, written = logger(form)
    log.info("x", text=f"at /v1/sessions/{ID}/messages", listed=[f"a {ID}"], table={ID: ID}, error=ValueError(ID), n=1)
    log.info(ID)
    try:
        int("x" + ID)
    except ValueError as fault:
        log.exception("y", exc_info=fault)
        log.exception("z")
    assert ID not in written.getvalue()
    assert written.getvalue().count("[secret]") > 5
    assert "Traceback" in written.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_a_file_name_cannot_act_on_the_terminal_or_forge_a_line(logger, form):
    log, written = logger(form)
    log.warning("outbox.refused", file="a\nerror\x1b[2J\r\u202eb\udcff", error='x"y z=1')
    text = written.getvalue()
    assert len(text.splitlines()) == 1
    assert not {c for c in text if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_below_the_level_is_left_out(logger, level):
    log, written = logger("json", level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(name)
    order = ["debug", "info", "warning", "error"]
    assert [json.loads(line)["event"] for line in written.getvalue().splitlines()] == order[order.index(level) :]


def test_json_has_a_level_and_a_time(logger):
    log, written = logger("json")
    log.error("x")
    value = json.loads(written.getvalue())
    assert value["level"] == "error"
    assert value["timestamp"].endswith("Z")


def test_logfmt_begins_with_the_priority_that_journald_reads(logger):
    log, written = logger("logfmt", "debug")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    assert [line[:3] for line in written.getvalue().splitlines()] == ["<7>", "<6>", "<4>", "<3>"]
    assert written.getvalue().startswith("<7>event=x session=chat")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_form_fits_where_it_goes(monkeypatch, tmp_path):
    def written(stream) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("info", "auto", Secrets()).info("x")
        stream.seek(0)
        return stream.read()

    assert json.loads(written(io.StringIO()))["event"] == "x"
    assert "\x1b[" in written(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in written(Terminal())
    with (tmp_path / "journal").open("w+") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert written(journal).startswith("<6>event=x")
        monkeypatch.setenv("JOURNAL_STREAM", "1:1")
        journal.truncate(0)
        assert json.loads(written(journal).strip("\0\n").splitlines()[-1])["event"] == "x"
    structlog.reset_defaults()


class Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("closed", [True, False])
def test_a_log_that_cannot_be_written_is_never_in_the_way(monkeypatch, closed):
    stream = io.StringIO() if closed else Broken()
    monkeypatch.setattr(sys, "stderr", stream)
    log = logs.configure("info", "json", Secrets())
    if closed:
        stream.close()
    assert log.info("x") is None
    structlog.reset_defaults()


def test_case_101_a_log_that_nobody_reads_blocks_nothing_and_goes_on_when_somebody_does(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stderr", open(writing, "w", buffering=1))  # noqa: SIM115
    log = logs.configure("info", "json", Secrets())
    count = 0
    while len(select.select([], [writing], [], 0)[1]):
        log.info("x", number=count, text="y" * 9_000)
        count += 1
    for _ in range(1_000):
        log.info("lost", text="y" * 9_000)  # a blocking write would hang here for ever
    full = b""
    while select.select([reading], [], [], 0)[0]:
        full += os.read(reading, 1 << 20)
    log.info("back")
    lines = (full + os.read(reading, 1 << 20)).splitlines()
    assert json.loads(lines[0])["number"] == 0
    assert json.loads(lines[-1])["event"] == "back"
    sys.stderr.close()
    os.close(reading)
    structlog.reset_defaults()


def test_nothing_goes_to_standard_output(logger, capsys):
    log, _ = logger("json")
    log.error("x")
    assert capsys.readouterr().out == ""
