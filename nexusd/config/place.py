"""Where the configuration is. It imports nothing: the hand asks it too, and has to start quickly."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def config_file(named: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The file that counts: --config, $NEXUSD_CONFIG, $CONFIGURATION_DIRECTORY, the user's, or the system's."""
    if named or environ.get("NEXUSD_CONFIG"):
        return os.path.abspath(os.path.expanduser(named or environ["NEXUSD_CONFIG"]))
    if folder := environ.get("CONFIGURATION_DIRECTORY"):
        return os.path.join(folder.split(":")[0], "config.toml")
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    own = os.path.join(home, "nexusd", "config.toml")
    system = "/etc/nexusd/config.toml"
    return system if os.path.exists(system) and not os.path.isdir(os.path.dirname(own)) else own


def sessions_folder(file: str) -> str:
    """The folder beside the configuration that holds a file for each session."""
    return os.path.join(os.path.dirname(file), "sessions.d")


def read(path: str, limit: int = 1 << 20) -> bytes:
    """A configuration file's bytes. OSError; also where it is no regular file, or larger than `limit`.

    A FIFO that strayed into the folder must not keep anybody waiting for its writer. Links are followed: people keep
    their configuration in other places.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        data = file.read(limit + 1)
    if data is None:
        raise OSError(0, "it is not a regular file", path)
    if len(data) > limit:
        raise OSError(0, f"it is larger than {limit >> 20} MiB", path)
    return data
