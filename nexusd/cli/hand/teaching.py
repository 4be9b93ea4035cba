"""skill: the page from which an agent learns to use all this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexusd import shipped

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from nexusd.cli.output import Verb


def skill_arguments(parser: ArgumentParser) -> None:
    """Declare what `skill` takes: nothing."""
    parser.epilog = "For example: nexus skill > ~/.claude/skills/nexusd/SKILL.md"


def skill(_: Namespace) -> Verb:
    """Print the page as it is: Markdown, the one output of `nexus` that is no JSON by nature."""
    yield shipped.page(shipped.SKILL)
    return 0
