"""Telling systemd how it goes (sd_notify(3)); nothing where it does not ask."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(**variables: str | int) -> None:
    """Send NAME=VALUE lines to $NOTIFY_SOCKET; a supervisor that does not listen is not our fault."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "".join(f"{name}={value}\n" for name, value in variables.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.send(message.encode())


def reloading() -> None:
    """Before a new configuration is read."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


def watchdog_interval() -> float | None:
    """Seconds between the signs of life that systemd wants: half of what it waits; None: it wants none."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
