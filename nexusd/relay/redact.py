"""Secrets that slipped into a message are replaced before anybody sees them.

Every pattern runs in linear time: no text that a client sends can make the relay think for long.
"""

from __future__ import annotations

import json
import re

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (
            "private_key",
            # Up to the next five dashes, also where the END line is missing: half a key is a secret too.
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----))*+(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
        ),
        ("aws_access_key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("github_token", r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255})"),
        ("anthropic_key", r"(?<![A-Za-z0-9_-])sk-ant-[A-Za-z0-9_-]{16,255}"),
        # A digit somewhere tells a key from a hyphenated word.
        ("api_key", r"(?<![A-Za-z0-9_-])sk-(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]{16,255}"),
        ("slack_token", r"(?<![A-Za-z0-9_-])xox[a-z]-[A-Za-z0-9-]{10,255}"),
        ("jwt", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}+\.eyJ[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]{5,}+"),
    )
)
_ASSIGNED = re.compile(
    r"(?i)(?P<name>(?<![A-Za-z0-9])(?:password|passwd|pwd|secret|api[_-]?key|secret[_-]?key|access[_-]?key"
    r"|access[_-]?token|auth[_-]?token|client[_-]?secret))"
    # After a colon prose may follow ("password: required"), so there a digit must be in it.
    r"(?P<sign>[\"']?[ \t]{0,8}(?:=[ \t]{0,8}|:[ \t]{0,8}(?=[^\s\"',;&]{0,64}[0-9]|[\"'][^\s\"',;&]{0,64}[0-9])))"
    r"(?P<quote>[\"']?)(?!\[REDACTED)(?P<value>[^\s\"',;&]{4,}+)"
)
_HINT = re.compile(r"(?i)AKIA|ASIA|gh[pousr]_|github_pat_|sk-|xox|eyJ|PRIVATE KEY|pass|pwd|secret|key|token")
_LITERAL = re.compile(r'"(?:[^"\\]++|\\.)*+"')
_NAME = re.compile(r"\s*+:")


def redact(text: str) -> tuple[str, tuple[str, ...]]:
    """Replace what looks like a secret by `[REDACTED:kind]`; gives the text and the kinds found."""
    if not _HINT.search(text):
        return text, ()
    found = []
    for kind, pattern in _PATTERNS:
        text, count = pattern.subn(f"[REDACTED:{kind}]", text)
        if count:
            found.append(kind)
    text, count = _ASSIGNED.subn(r"\g<name>\g<sign>\g<quote>[REDACTED:password]", text)
    if count:
        found.append("password")
    return text, tuple(found)


def redact_json(payload: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Do the same in the string values of a JSON text, leaving every other byte as it is."""
    text = payload.decode()
    # An escape can spell any letter, so the hint says nothing about a text that holds one.
    if "\\u" not in text and not _HINT.search(text):
        return payload, ()
    found: set[str] = set()

    def replace(literal: re.Match[str]) -> str:
        quoted = literal[0]
        if ("\\u" not in quoted and not _HINT.search(quoted)) or _NAME.match(text, literal.end()):
            return quoted
        value, kinds = redact(json.loads(quoted))
        found.update(kinds)
        return json.dumps(value, ensure_ascii=False) if kinds else quoted

    return _LITERAL.sub(replace, text).encode(), tuple(sorted(found))
