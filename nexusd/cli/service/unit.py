"""unit: a systemd unit for this installation. All but its paths stands in the templates: `systemd/` in the project."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

from nexusd.cli.output import say
from nexusd.cli.service.running import config_argument
from nexusd.config.load import config_file, load

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable

    from nexusd.cli.output import Verb
    from nexusd.config.records import Config

SYSTEM, USER = "nexusd@.service", "user/nexusd.service"
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108 - what the sandbox puts something else over


def unit_arguments(parser: ArgumentParser) -> None:
    """Declare what `unit` takes."""
    parser.add_argument("--user", action="store_true", help="for your own systemd, which needs no root")
    config_argument(parser)


def unit(args: Namespace) -> Verb:
    """Print the unit as it is; how to install it is said on stderr."""
    config = load(args.config)
    named = args.config or os.environ.get("NEXUSD_CONFIG")
    command = [*program(), "run", *(["--config", config_file(named)] if named else [])]
    if args.user:
        yield filled(template(USER), ExecStart=" ".join(map(word, command))).encode()
        _say_user()
        return 0
    home = Home()
    needed = home.hidden([*_installation(), *([os.path.dirname(command[-1])] if named else [])])
    written = home.outside(_written(config))
    paths = [home.name]
    for key, folders in (("BindReadOnlyPaths", needed), ("ReadWritePaths", written)):
        if folders:
            paths.append(f"{key}={' '.join(map(word, folders))}")
    command = [home.word(part) for part in command]
    yield filled(template(SYSTEM), ExecStart=" ".join(command), BindPaths="\n".join(paths)).encode()
    _say_system(home.account, written)
    return 0


def template(name: str) -> str:
    """A unit as it is shipped: in the package where it was installed, beside it where it is worked on."""
    package = files("nexusd")
    shipped = package / "systemd" / name
    return (shipped if shipped.is_file() else package / ".." / "systemd" / name).read_text(encoding="utf-8")


def program() -> list[str]:
    """How to start this very nexusd: by the path that people use, where that leads to the same program."""
    beside = os.path.join(os.path.dirname(sys.executable), "nexusd")
    if not os.access(beside, os.X_OK):
        return [sys.executable, "-m", "nexusd.cli.nexusd"]
    found = shutil.which("nexusd")
    return [os.path.abspath(found) if found and os.path.realpath(found) == os.path.realpath(beside) else beside]


class Home:
    """The account's home: all that a system unit lets it see of /home. One unit serves any account, called `%i`."""

    def __init__(self) -> None:
        """Of the account that runs this; root only installs the unit, for accounts of the usual kind."""
        root = os.geteuid() == 0
        self.path = os.path.abspath(os.path.expanduser("~"))
        self.account = "" if root else pwd.getpwuid(os.geteuid()).pw_name
        usual = root or self.path == f"/home/{self.account}"
        self.name = "/home/%i" if usual else word(self.path)
        self._any = usual and not root  # paths in it are the same for every account
        self._seen = not root

    def word(self, path: str) -> str:
        """A path as it stands in the unit."""
        if not (self._any and self.holds(path)):
            return word(path)
        return word("\0" + path.removeprefix(self.path)).replace("\0", self.name)

    def hidden(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that the sandbox would hide."""
        return _outermost(p for p in paths if f"{p}/".startswith(_HIDDEN) and not (self._seen and self.holds(p)))

    def outside(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that are not in the home, where all can be written to."""
        return _outermost(path for path in paths if not self.holds(path))

    def holds(self, path: str) -> bool:
        """Whether the path is in the home."""
        return f"{path}/".startswith(f"{self.path}/")


def filled(text: str, **values: str) -> str:
    """A template with other values for these keys, and without the hint at this command."""
    lines = (line for line in text.splitlines() if not line.startswith("# `nexusd unit"))
    return "".join(
        f"{key}={values[key]}\n" if (key := line.partition("=")[0]) in values else f"{line}\n" for line in lines
    )


def word(text: str) -> str:
    """A word of a unit file: `%` begins a specifier, `$` a variable, white space ends it, `:` parts what is bound."""
    text = text.replace("%", "%%").replace("$", "$$")
    if any(char.isspace() or char in "\"'\\:" for char in text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _installation() -> list[str]:
    """The folders without which this program cannot run: its environment, the Python behind it, its code."""
    return [sys.prefix, sys.base_prefix, os.path.abspath(str(files("nexusd")))]


def _written(config: Config) -> list[str]:
    """The folders that the daemon writes to."""
    metrics = [os.path.dirname(config.metrics_file)] if config.metrics_file else []
    return [config.root, config.client_dir, *metrics]


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without doubles and without what is inside another one."""
    found: list[str] = []
    for path in sorted(set(paths)):
        if not any(f"{path}/".startswith(f"{other}/") for other in found):
            found.append(path)
    return found


def _say_system(account: str, written: list[str]) -> None:
    account = account or "ACCOUNT"
    say("to install it, as root:")
    say("  nexusd unit > /etc/systemd/system/nexusd@.service")
    for path in written:
        say(f"  install -d -o {account} -m 700 {path}")
    say(f"  systemctl daemon-reload && systemctl enable --now nexusd@{account}")
    say(f"  journalctl -u nexusd@{account} -f")


def _say_user() -> None:
    say("to install it:")
    say("  mkdir -p ~/.config/systemd/user && nexusd unit --user > ~/.config/systemd/user/nexusd.service")
    say("  systemctl --user daemon-reload && systemctl --user enable --now nexusd")
    say("  loginctl enable-linger    # so that it also runs while you are not logged in")
    say("  journalctl --user -u nexusd -f")
