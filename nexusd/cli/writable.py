"""Whether what a server is about to give can be kept: found out by writing, before it is asked.

Modes do not tell: a disk may be full, a file system read-only, a folder somebody else's. A key or a code is given once.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nexusd.cli.output import shown_path
from nexusd.errors import UserError
from nexusd.spool import atomic

if TYPE_CHECKING:
    from nexusd.clientdir import ClientDir

_BLOCK = bytes(4096)  # an empty file can be made on a disk that is full


def probe(folder: str) -> None:
    """Make the folder if it is not there, write a file in it as it is done for good, and take all of it away again.

    UserError `local_files` where that cannot be; nothing is left behind. A daemon that runs takes a new folder for
    news: one that stayed here without a file in it would have been looked at before there is anything to see.
    """
    path = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    made = _missing(folder)
    try:
        atomic.private_folder(folder)
        atomic.replace(path, _BLOCK)
        os.unlink(path)
    except OSError as fault:
        raise _refused(folder, fault) from None
    finally:
        with contextlib.suppress(OSError):  # somebody else may have put something in meanwhile
            for new in made:
                os.rmdir(new)


def _missing(folder: str) -> list[str]:
    """The folder and its parents that are not there, the innermost first."""
    missing = []
    while folder != os.path.dirname(folder) and not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def probe_client_dir(state: ClientDir) -> None:
    """The same for all that a new session needs in the shared local state: its record, the aliases and their lock."""
    probe(os.path.join(state.path, "sessions"))
    probe(state.path)
    try:
        state.set_alias("", None)  # there is none: it takes the lock and reads the file, and changes nothing
    except OSError as fault:
        raise _refused(state.path, fault) from None


def _refused(folder: str, fault: OSError) -> UserError:
    place = shown_path(fault.filename) if isinstance(fault.filename, str) and ".tmp" not in fault.filename else folder
    return UserError(
        "local_files",
        f"{place}: nothing can be kept there ({fault.strerror or fault}), so the server was not asked; mend that first",
    )
