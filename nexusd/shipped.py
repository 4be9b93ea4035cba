"""The pages that come with the package: the same files stand at the top of the project."""

from __future__ import annotations

import os

SKILL = "SKILL.md"
EXAMPLE = "config.example.toml"


def page(name: str) -> bytes:
    """One of them, as it is: beside this module in a wheel, two folders up in a checkout. FileNotFoundError."""
    home = os.path.dirname(os.path.abspath(__file__))
    for folder in (home, os.path.dirname(home)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
    raise FileNotFoundError(2, "it should have come with the package; install nexusd again", name)
