"""Telling systemd how it goes."""

from __future__ import annotations

import os
import socket

import pytest

from nexusd import notify


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """A supervisor's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = str(tmp_path / "notify") if request.param == "path" else f"@nexusd-test-{os.getpid()}"
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_each_variable_is_a_line(systemd):
    notify.notify(READY=1, STATUS="2 sessions, é")
    assert systemd.recv(4096).decode() == "READY=1\nSTATUS=2 sessions, é\n"


def test_a_reload_says_when_it_began(systemd):
    notify.reloading()
    first, second, _ = systemd.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_without_a_supervisor_nothing_is_sent(systemd, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    notify.notify(READY=1)
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(4096)


@pytest.mark.parametrize("address", ["/nowhere/at/all", "@nobody-listens-here", "/" + "x" * 200])
def test_a_supervisor_that_does_not_listen_is_not_our_fault(address, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert notify.notify(READY=1) is None


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", "", 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),
        ("", "", None),
        ("soon", "", None),
        ("-5", "", None),
    ],
)
def test_signs_of_life_are_given_twice_as_often_as_they_are_waited_for(usec, pid, seconds, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert notify.watchdog_interval() == seconds
