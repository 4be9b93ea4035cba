"""Whether nexusd will run after the next start of the machine. Told by files alone: no systemd is asked."""

from __future__ import annotations

import glob
import os
import pwd
import shlex
from typing import TYPE_CHECKING

from nexusd.cli.service.findings import Finding, bad, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
LINGER = "/var/lib/systemd/linger"


def examine(environ: Mapping[str, str] = os.environ, system: tuple[str, ...] = SYSTEM) -> Iterator[Finding]:
    """Look for the unit, whether it is enabled, and whether it runs without anybody being logged in."""
    account = _account()
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    own = (os.path.join(config, "systemd", "user"), "/etc/systemd/user", "/usr/lib/systemd/user")
    users = _first(own, "nexusd.service")
    systems = _first(system, "nexusd@.service") or _first(system, f"nexusd@{account}.service")
    if users is None and systems is None:
        remedy = "nexusd unit --user > ~/.config/systemd/user/nexusd.service && systemctl --user enable --now nexusd"
        yield warn("unit", "none is installed: nexusd runs only for as long as somebody runs it", remedy)
        return
    if systems is not None:
        yield from _program(systems)
        yield _enabled(system, f"nexusd@{account}.service", f"systemctl enable --now nexusd@{account}", systems)
    if users is not None:
        yield from _program(users)
        yield _enabled(own[:2], "nexusd.service", "systemctl --user enable --now nexusd", users)
        if os.path.exists(os.path.join(LINGER, account)):
            yield ok("linger", f"{account}'s services run without a login")
        elif systems is None:
            yield warn("linger", "nexusd runs only while you are logged in", f"loginctl enable-linger {account}")
    if users is not None and systems is not None:
        yield warn(
            "unit", "there are two, of which one will end with status 75", "systemctl --user disable --now nexusd"
        )


def _first(folders: tuple[str, ...], name: str) -> str | None:
    paths = (os.path.join(folder, name) for folder in folders)
    return next((path for path in paths if os.path.exists(path)), None)


def _enabled(folders: tuple[str, ...], name: str, remedy: str, path: str) -> Finding:
    for folder in folders:
        if any(map(os.path.lexists, glob.glob(os.path.join(glob.escape(folder), "*.wants", glob.escape(name))))):
            return ok("unit", f"{path} is enabled")
    return warn("unit", f"{path} is installed, but not started with the machine", remedy)


def _program(path: str) -> Iterator[Finding]:
    """Whether what the unit starts is there."""
    try:
        with open(path, encoding="utf-8") as file:
            start = next((line.partition("=")[2] for line in file if line.startswith("ExecStart=")), "")
    except OSError as fault:
        yield bad("unit", f"{path} cannot be read: {fault.strerror}", f"chmod a+r {path}")
        return
    try:
        program = shlex.split(start)[0].lstrip("@-:+!")
    except (ValueError, IndexError):
        yield bad("unit", f"{path} starts nothing", f"nexusd unit > {path}")
        return
    program = program.replace("%h", os.path.expanduser("~")).replace("%i", _account()).replace("%%", "%")
    if not os.access(program, os.X_OK):
        user = " --user" if "/user/" in path else ""
        yield bad(
            "unit", f"{path} starts {program}, which is not there or may not be run", f"nexusd unit{user} > {path}"
        )


def _account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
