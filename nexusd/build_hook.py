"""At build time: manual pages and shell completion of both programs, made from their parsers, put into the wheel.

Not part of the wheel itself. An editable install gets none of this, because nothing could keep it up to date.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from argparse import ArgumentParser

PROGRAMS = ("nexus", "nexusd")
_COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
_FILES, _FOLDERS = ("FILE",), ("DIR",)


class Documents(BuildHookInterface[Any]):
    """The hook; hatchling finds it by its base class."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files and have them put under `share/` of wherever the wheel is installed."""
        self._folder = tempfile.mkdtemp(prefix="nexusd-documents-")
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        os.environ["COLUMNS"] = "80"  # whatever the terminal of whoever builds
        for path, text in documents(str(self.metadata.version)).items():
            source = os.path.join(self._folder, path.replace("/", "-"))
            with open(source, "w", encoding="utf-8") as file:
                file.write(text)
            build_data["shared_data"][source] = path

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact: str) -> None:
        """Tidy up."""
        shutil.rmtree(self._folder, ignore_errors=True)


def documents(version: str) -> dict[str, str]:
    """Each file's place and text. The date is that of the source, so that a build can be repeated."""
    shtab = import_module("shtab")
    found = {}
    for program in PROGRAMS:
        parser: ArgumentParser = import_module(f"nexusd.cli.{program}").parser()
        found[f"share/man/man1/{program}.1"] = _manual(parser, program, version)
        for action in _actions(parser):
            if action.metavar in (*_FILES, *_FOLDERS):
                action.complete = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY
        for shell, path in _COMPLETIONS.items():
            found[path.format(program)] = shtab.complete(parser, shell=shell) + "\n"
    return found


def _manual(parser: ArgumentParser, program: str, version: str) -> str:
    manpage = import_module("argparse_manpage.manpage")
    parser.man_short_description = (parser.description or "").partition(".")[0]  # type: ignore[attr-defined]
    at = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    data = {"project_name": "nexusd", "version": version, "prog": program, "manual_title": "nexusd"}
    data["date"] = time.strftime("%Y-%m-%d", at)
    return str(manpage.Manpage(parser, _data=data))


def _actions(parser: ArgumentParser) -> list[Any]:
    """Every argument, those of the commands too."""
    found: list[Any] = []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other word for it, and shtab does the same
        found.append(action)
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                found += _actions(inner)
    return found
