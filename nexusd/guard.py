"""Whether a text looks as if it held a secret that somebody would rather not send. Says which rule, never the value.

Precise rules only: what has a fixed form, or stands behind a word like `password`. Randomness alone is no sign, or each
digest and each identifier would be one. Texts are looked at in pieces: a regular expression keeps all of the daemon
waiting while it searches, and some of those that `detect-secrets` brings take the square of a line's length.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE, OVERLAP = 65_536, 2_048  # characters looked at together; longer than any secret that has a rule
LINE, LINE_OVERLAP = 4_096, 256  # the same within one line, for the rules of detect-secrets

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("AWS access key id", r"(?<![A-Za-z0-9])A(?:K|S)IA[A-Z0-9]{16}(?<!EXAMPLE)(?![A-Za-z0-9])"),
        ("GitHub token", r"(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50})"),
        ("GitLab token", r"(?<![A-Za-z0-9_-])gl(?:pat|ptt|rt|dt|ft|soat)-(?=[a-z_-]{0,64}[0-9A-Z])[A-Za-z0-9_-]{20}"),
        ("Anthropic key", r"(?<![A-Za-z0-9_-])sk-ant-(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]{24}"),
        # A digit and a capital tell a key from words with hyphens.
        (
            "API key (sk-)",
            r"(?<![A-Za-z0-9_-])sk-(?=[A-Za-z_-]{0,64}[0-9])(?=[a-z0-9_-]{0,64}[A-Z])[A-Za-z0-9_-]{20}",
        ),
        ("Slack token", r"(?<![A-Za-z0-9_-])(?:xox[abeprs]|xapp)-(?=[A-Za-z-]{0,16}[0-9])[A-Za-z0-9-]{12}"),
        ("Google API key", r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
        ("Hugging Face token", r"(?<![A-Za-z0-9_])hf_(?=[a-z0-9]{0,34}[A-Z])[A-Za-z0-9]{34}(?![A-Za-z0-9_])"),
        ("npm token", r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"),
        ("age key", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
        ("private key", r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,400}?[A-Za-z0-9+/]{40}"),
        (
            "JSON web token",
            r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,2000}+\.eyJ[A-Za-z0-9_-]{8,2000}+\.[A-Za-z0-9_-]{16}",
        ),
        (
            "authorization header",
            (
                r"(?i)\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:bearer|basic|token)\s{1,4}"
                r"(?=[a-z_.=+/-]{0,64}[0-9])[a-z0-9_.=+/-]{16}"
            ),
        ),
        (
            "password in a URL",
            (
                r"://[^\s/:@\"'<>]{0,100}:(?!(?i:pass|password|passwd|pwd|secret|token|x+|\*+|\.+)@)"
                r"[^\s/@\"'<>{}$*]{3,200}@[A-Za-z0-9\[]"
            ),
        ),
    )
)
_ASSIGNED = re.compile(
    r"(?i)(?:password|passwd|passphrase|pwd|secret|(?:api|access|secret|private|account|signing|encryption)[_-]?key"
    r"|(?:access|auth|api|bearer|refresh)[_-]?token|session[_-]?key)"
    r"[\"']?[ \t]{0,8}(?::=|=>|[=:])[ \t]{0,8}"
    r"(?:\"(?P<double>[^\"\s]{6,200})\"|'(?P<single>[^'\s]{6,200})'|(?P<bare>[^\s\"',;&|()\[\]{}<>$`]{6,200})(?![(\[{<]))"
)
_DIGIT, _LETTER_OR_LONG = re.compile(r"[0-9]"), re.compile(r"[A-Za-z]|^[0-9]{6,}$")
_SIGN = re.compile(r"[!@#%^&*+?~]")
_NO_VALUE = re.compile(
    r"^(?:[/~.]|\$|%|<|\{|https?:|(.)\1+$)|\.\.\.|\*\*|\{\{|\$\{|(?i:example|placeholder|redacted|your[_-])"
)
_HINT = re.compile(
    r"(?i)A[KS]IA|AIza|gh[pousr]_|github_pat|gl[a-z]{2,4}-|sk-|xox|xapp|hf_|npm_|KEY|eyJ|authoriz|://|pass|pwd|secret|token"
)

# Of detect-secrets what has a fixed form and no rule above. Not used: randomness and key words (no fixed form), the
# OpenAI and npm ones (minutes for a long line; there are rules above), and those that match half a word.
_PLUGINS = {
    "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "mailchimp": "MailchimpDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}


def is_complete() -> bool:
    """Whether the extra `secrets` is installed."""
    return find_spec("detect_secrets") is not None


def found(text: str | None, payload: Any = None) -> str | None:
    """The name of the first rule that a message's text or JSON payload meets, or None. Never raises for any input.

    >>> found("the password is behind the mirror")
    >>> found("DB_PASSWORD=correct-horse-7")
    'password or key'
    >>> found(None, {"note": "see https://me:s3cr3t@example.org/"})
    'password in a URL'
    """
    said = "\n".join([*([text] if text else ()), *(_said(payload) if payload is not None else ())])
    for begin in range(0, max(1, len(said)), PIECE - OVERLAP):
        if rule := _in_piece(said[begin : begin + PIECE]):
            return rule
    return None


def _in_piece(piece: str) -> str | None:
    if _HINT.search(piece):
        for name, pattern in _RULES:
            if pattern.search(piece):
                return name
        if any(_is_value(match) for match in _ASSIGNED.finditer(piece)):
            return "password or key"
    return _by_plugins(piece)


def _is_value(match: re.Match[str]) -> bool:
    """Whether what stands behind the word is a value, and not its type, a path, a variable or an example."""
    value = match["double"] or match["single"] or match["bare"]
    if _NO_VALUE.search(value):
        return False
    return bool(_DIGIT.search(value) and _LETTER_OR_LONG.search(value)) or (
        match["bare"] is None and bool(_SIGN.search(value))
    )


def _by_plugins(piece: str) -> str | None:
    for line in piece.splitlines():
        for begin in range(0, len(line), LINE - LINE_OVERLAP):
            part = line[begin : begin + LINE]
            for plugin in _plugins():
                if next(iter(plugin.analyze_string(part)), None) is not None:
                    return str(plugin.secret_type)
    return None


@cache
def _plugins() -> tuple[Any, ...]:
    """The detectors, where the extra is there. Their import takes 0.2 s, so it waits for the first message."""
    if not is_complete():
        return ()
    made = []
    for module, name in _PLUGINS.items():
        try:
            made.append(getattr(import_module(f"detect_secrets.plugins.{module}"), name)())
        except (ImportError, AttributeError):
            continue  # another version has no such plugin
    return tuple(made)


def _said(payload: Any) -> Iterator[str]:
    """Every string of a JSON value, behind its name where it has one."""
    stack: list[tuple[str, Any]] = [("", payload)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, dict):
            stack.extend((str(inner), value[inner]) for inner in value)
        elif isinstance(value, list):
            stack.extend((name, inner) for inner in value)
        elif isinstance(value, str):
            yield f'{name}: "{value}"' if name else value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{name}: {value}"
