"""The one parser of what a person pastes for a pairing code."""

from __future__ import annotations

import pytest

from nexusd.cli.pasted import pasted
from nexusd.errors import UserError

CODE, SERVER = "ABLE-ACORN-34679", "https://messaging.md"
LINK = f"{SERVER}/p/{CODE}"

LINKS = {
    "as it is": LINK,
    "in angle brackets": f"<{LINK}>",
    "in quotes": f'"{LINK}"',
    "in single quotes": f"'{LINK}'",
    "in typographic quotes": f"\u201c{LINK}\u201d",
    "in German quotes": f"\u201e{LINK}\u201c",
    "in backquotes": f"`{LINK}`",
    "in a code block": f"```\n{LINK}\n```",
    "in Markdown": f"[join me]({LINK})",
    "in Markdown, as its own text": f"[{LINK}]({LINK})",
    "in Markdown, bold": f"**{LINK}**",
    "as Slack writes it": f"<{LINK}|messaging.md>",
    "with a full stop": f"{LINK}.",
    "with a comma and more": f"{LINK}, it works once",
    "with an ellipsis": f"{LINK}\u2026",
    "with a query": f"{LINK}?utm=x&b=c",
    "with a fragment": f"{LINK}#top",
    "with /skill": f"{LINK}/skill",
    "with /skill/ and a query": f"{LINK}/skill/?x",
    "with /skill and a full stop": f"{LINK}/skill.",
    "with a slash": f"{LINK}/",
    "the long form": f"{SERVER}/v1/pair/{CODE}/skill",
    "in a sentence": f"Hi! Here is the link \u2013 it works once: {LINK}. See you there \U0001f600",
    "in a sentence with another link": f"See https://messaging.md/docs and come to {LINK}!",
    "twice": f"{LINK} or {LINK}/skill",
    "in capitals": f"HTTPS://MESSAGING.MD/p/{CODE}",
    "all in capitals": LINK.upper(),
    "with the code in lower case": f"{SERVER}/p/{CODE.lower()}",
    "with en dashes": f"{SERVER}/p/{CODE}".replace("-", "\u2013"),
    "with escaped en dashes": f"{SERVER}/p/" + CODE.replace("-", "%E2%80%93"),
    "with white space round it": f"\n\t {LINK} \u00a0\n",
    "with a zero width space behind it": f"{LINK}\u200b",
    "with a byte order mark": f"\ufeff{LINK}",
    "in Chinese": f"\u94fe\u63a5\uff1a{LINK}\u3002",
}

CODES = {
    "as it is": CODE,
    "in lower case": CODE.lower(),
    "mixed": CODE.title(),
    "with en dashes": CODE.replace("-", "\u2013"),
    "with em dashes": CODE.replace("-", "\u2014"),
    "with non-breaking hyphens": CODE.replace("-", "\u2011"),
    "with minus signs": CODE.replace("-", "\u2212"),
    "with wide hyphens": CODE.replace("-", "\uff0d"),
    "with spaces round it": f"  {CODE}\u00a0\n",
    "with spaces round the dashes": CODE.lower().replace("-", " \u2013 "),
    "in quotes": f"\u201c{CODE}\u201d.",
    "in backquotes": f"`{CODE}`",
}


@pytest.mark.parametrize("text", LINKS.values(), ids=LINKS.keys())
def test_case_147_the_one_link_in_a_text_is_found(text):
    assert pasted(text) == (CODE, SERVER)


@pytest.mark.parametrize("text", CODES.values(), ids=CODES.keys())
def test_case_147_a_code_is_known_however_it_was_typeset(text):
    assert pasted(text) == (CODE, None)


@pytest.mark.parametrize(
    ("text", "code", "server"),
    [
        ("HTTP://LOCALHOST:8080/relay/p/A-B-C", "A-B-C", "http://localhost:8080/relay"),
        ("http://[::1]:99/p/A-B-C", "A-B-C", "http://[::1]:99"),
        ("<http://[::1]:99/v1/pair/A-B-C/claim>.", "A-B-C", "http://[::1]:99"),
        ("opaque_code.of~another-server", "opaque_code.of~another-server", None),
    ],
)
def test_case_147_other_servers_have_other_links_and_codes(text, code, server):
    assert pasted(text) == (code, server)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"the code is {CODE}", "SPACE"),
        ("ABLE ACORN 34679", "SPACE"),
        ("ABLE-ACORN\t34679", "control character"),
        ("\u00c4BLE-ACORN-34679", "LATIN CAPITAL LETTER A WITH DIAERESIS"),
        ("ABLE-ACORN-3467\u212a", "KELVIN SIGN"),
        ("\u0410BLE-ACORN-34679", "CYRILLIC CAPITAL LETTER A"),
        ("ABLE-AC\u200bORN-34679", "ZERO WIDTH SPACE"),
        ("ABLE-AC\u202eORN-34679", "RIGHT-TO-LEFT OVERRIDE"),
        ("A/B", "SOLIDUS"),
        (f"messaging.md/p/{CODE}", "SOLIDUS"),
        (f"{SERVER}/p/\u00c4BLE-ACORN-34679", "LATIN CAPITAL LETTER A WITH DIAERESIS"),
        (f"{SERVER}/p/ABLE%0AACORN", "control character"),
        ("ftp://messaging.md/p/" + CODE, "no pairing link"),
        ("https://example.org/other/thing", "no pairing link"),
        ("http://[::1/p/X", "no pairing link"),
        (f"{LINK} or {SERVER}/p/OTHER-ACORN-34679", "two different"),
        (f"{LINK} or https://other.example/p/{CODE}", "two different"),
        ("", "no pairing code"),
        (" \n", "no pairing code"),
        ("...", "no pairing code"),
        ("5e" * 24, "session's id"),
        (f"X{'5E' * 24}", "session's id"),
        (f"{SERVER}/p/{'5e' * 24}", "session's id"),
        ("A" * 201, "longer"),
        ("A" * 10_000, "longer"),
    ],
)
def test_case_147_what_is_no_code_is_refused_with_what_is_in_the_way_and_never_shown(text, named):
    with pytest.raises(UserError) as caught:
        pasted(text)
    said = str(caught.value)
    assert caught.value.code == "bad_code"
    assert named in said
    for secret in ("ABLE", "ACORN", "34679", "OTHER", "5e5e", "5E5E"):
        assert secret not in said


@pytest.mark.parametrize(
    "text",
    [
        "nexus-sealed://messaging.md/p/ABLE-ACORN-34679#nx1.c2VjcmV0",
        "NEXUS-SEALED://messaging.md/p/ABLE-ACORN-34679",
        f"{LINK}#nx1.c2VjcmV0",
        f"Come here: <{LINK}/skill?x=y#NX1.c2VjcmV0>",
        f"{CODE}#nx1.c2VjcmV0",
        f"{LINK} nexus-sealed://x",
    ],
)
def test_case_147_a_sealed_link_is_refused_before_it_is_spent_and_never_shown(text):
    with pytest.raises(UserError) as caught:
        pasted(text)
    assert caught.value.code == "sealed_link"
    for secret in ("ABLE", "34679", "c2VjcmV0"):
        assert secret not in str(caught.value)
