"""What a person pasted for a pairing code: the code itself, its link, or a message with the link somewhere in it.

A code is a secret and goes to one server only. So what is not surely a code or a link is refused before anything is
asked, and the sentence names the character that is in the way, never the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from nexusd.config.concealed import Ids
from nexusd.errors import UserError

LONGEST = 4096  # characters of a pasted text; more is no message with a link in it
LONGEST_CODE = 200
EXAMPLE = "https://messaging.md/p/WORD-WORD-XXXXX"
_WANTED = f"one looks like WORD-WORD-XXXXX, a link like {EXAMPLE}"

# What ends a link in running text: white space, quotes, brackets (Markdown, <...>), and what is not seen.
_END = (
    r"\s<>\"'`()\[\]{}|\\^\u2018-\u201f\u00ab\u00bb\u2039\u203a"
    r"\u3001\u3002\uff01\uff08\uff09\uff0c\u200b-\u200f\u2060\ufeff"
)
_URL = re.compile(rf"https?://(?:\[[0-9A-Fa-f:.]+\])?[^{_END}]*", re.IGNORECASE)
_PATH = re.compile(r"(?P<prefix>.*)/(?:p|v1/pair)/(?P<code>[^/]+)(?:/skill|/status|/claim)?/?", re.IGNORECASE)
_SEALED = re.compile(r"nexus-sealed:|#nx[0-9]+\.", re.IGNORECASE)

# Typography turns a hyphen into these: hyphens, dashes, the minus sign, and their small and wide forms.
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2043, 0x2212, 0xFE58, 0xFE63, 0xFF0D], "-")
_AROUND = (
    " \t\r\n\u00a0\u200b\u200c\u200d\u200e\u200f\u2060\ufeff<>\"'`()[]{}*_.,;:!?"
    "\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a\u2026"
)
_IN_A_CODE = re.compile(r"[A-Za-z0-9._~-]+")
_USUAL = re.compile(r"[A-Z]+-[A-Z]+-[A-Z0-9]{5}", re.IGNORECASE | re.ASCII)


class Pasted(NamedTuple):
    """A pairing code, and the server of its link; None for a code alone."""

    code: str
    server: str | None


def pasted(text: str) -> Pasted:
    """The code in a pasted text. UserError `bad_code` or `sealed_link`, which never show the text."""
    if _SEALED.search(text):
        raise UserError(
            "sealed_link",
            "this link asks for a sealed session, which this version of nexusd cannot do; nothing was asked, "
            "and the link is still good: use a version that can, or ask for a plain link",
        )
    if len(text) > LONGEST:
        raise UserError("bad_code", f"this is longer than {LONGEST} characters; paste the pairing link alone")
    links = {link for url in _URL.findall(text) if (link := _link(url)) is not None}
    if len(links) > 1:
        raise UserError("bad_code", "there are two different pairing links in it; paste the one that is meant")
    if links:
        return links.pop()
    if "://" in text:
        raise UserError("bad_code", f"there is no pairing link in it; one looks like {EXAMPLE}")
    return Pasted(_code(text), None)


def _link(url: str) -> Pasted | None:
    """The code and server of a pairing link; None where the URL is another one."""
    try:
        parts = urlsplit(url)
        match = _PATH.fullmatch(parts.path.rstrip(".,;:!?*_~\u2026"))
    except ValueError:
        return None
    if match is None or not parts.netloc:
        return None
    server = f"{parts.scheme.lower()}://{parts.netloc.lower()}{match['prefix']}"
    return Pasted(_code(unquote(match["code"])), server)


def _code(text: str) -> str:
    code = text.translate(_DASHES).strip(_AROUND)
    # Spaces round the hyphens are let go where what is left is surely a code: words with hyphens are none.
    if _USUAL.fullmatch(joined := re.sub(r"\s*-\s*", "-", code)):
        return joined.upper()  # servers make them in upper case, and a telephone's keyboard does not
    if not code:
        raise UserError("bad_code", f"there is no pairing code in it; {_WANTED}")
    if not _IN_A_CODE.fullmatch(code):
        strange = next(char for char in code if not _IN_A_CODE.fullmatch(char))
        raise UserError("bad_code", f"this is no pairing code, for it holds {_named(strange)}; {_WANTED}")
    if len(code) > LONGEST_CODE:
        raise UserError("bad_code", "this is longer than any pairing code; one looks like WORD-WORD-XXXXX")
    if Ids(None).within(code):
        raise UserError(
            "bad_code", "this holds a session's id, and is no pairing code; an id goes to: nexusd add --id -"
        )
    return code


def _named(char: str) -> str:
    """A character by its Unicode name: shown as itself it may be invisible, or part of the secret."""
    import unicodedata  # noqa: PLC0415 - only for a fault

    return f"{unicodedata.name(char, 'a control character')} (U+{ord(char):04X})"
