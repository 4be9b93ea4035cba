"""What is taken for a secret, and what is not."""

from __future__ import annotations

import json

import pytest

from nexusd.relay.redact import redact, redact_json

KEY = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,1\n\nMIIE\n"
SECRETS = {
    "aws_access_key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "github_token": "ghp_" + "a1B2" * 9,
    "anthropic_key": "sk-ant-" + "api03-abcdefghijklmnop",
    "api_key": "sk-" + "proj-abcdefghijklmnopqrst1",
    "slack_token": "xoxb-" + "1234567890-abcdef",
    "jwt": "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2QT4",
    "private_key": KEY + "-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_a_secret_is_replaced_and_what_stands_round_it_stays(kind, secret) -> None:
    assert redact(f"look: {secret}, please") == (f"look: [REDACTED:{kind}], please", (kind,))


@pytest.mark.parametrize(
    "token", ["gho_" + "a1B2" * 9, "github_pat_" + "11ABCDEFG0abcdefghijkl_mnop", "ghs_" + "a1B2" * 9]
)
def test_all_kinds_of_github_tokens_are_known(token) -> None:
    assert redact(token) == ("[REDACTED:github_token]", ("github_token",))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("password=hunter2", "password=[REDACTED:password]"),
        ("DB_PASSWORD = 'hunter2'", "DB_PASSWORD = '[REDACTED:password]'"),
        ("api_key: abc123def", "api_key: [REDACTED:password]"),
        ('"api-key": "abc123def",', '"api-key": "[REDACTED:password]",'),
        ("client_secret=xyzzy&scope=all", "client_secret=[REDACTED:password]&scope=all"),
    ],
)
def test_an_assignment_to_a_telling_name_loses_its_value(said, shown) -> None:
    assert redact(said) == (shown, ("password",))


@pytest.mark.parametrize(
    "harmless",
    [
        "the password: it is required",
        "no secret here, only sk-learn-is-a-fine-library",
        "AKIA is how they begin",
        "keys and tokens; passwords too",
        "4670c1f2a9b8e3d7f6a5c4b3d2e1f0a94670c1f2a9b8e3d7",
        "[REDACTED:jwt]",
        "password=[REDACTED:password]",
    ],
)
def test_plain_words_stay_as_they_are(harmless) -> None:
    assert redact(harmless) == (harmless, ())


def test_half_a_private_key_is_a_secret_too() -> None:
    assert redact(KEY) == ("[REDACTED:private_key]", ("private_key",))


def test_what_was_redacted_is_not_redacted_again() -> None:
    once, _ = redact(" ".join([*SECRETS.values(), "password=hunter2"]))
    assert redact(once) == (once, ())


def test_only_the_string_values_of_json_are_touched() -> None:
    payload = b'{ "n": 1.10, "AKIAABCDEFGHIJKLMNOP" : [true, "AKIAABCDEFGHIJKLMNOP", "\\u00e9 fine"] }'
    assert redact_json(payload) == (
        b'{ "n": 1.10, "AKIAABCDEFGHIJKLMNOP" : [true, "[REDACTED:aws_access_key]", "\\u00e9 fine"] }',
        ("aws_access_key",),
    )


def test_escapes_do_not_hide_a_secret() -> None:
    found, kinds = redact_json(b'["\\u0041KIAABCDEFGHIJKLMNOP", "say \\"password=hunter2\\""]')
    assert json.loads(found) == ["[REDACTED:aws_access_key]", 'say "password=[REDACTED:password]"']
    assert kinds == ("aws_access_key", "password")


@pytest.mark.parametrize(
    "bait",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "eyJ",
        "-eyJ",
        "eyJaaaaa.",
        "sk-",
        "xoxb-",
        "password:",
        "password=",
        "password: ",
        "ghp_",
        "AKIA",
        '\\"',
    ],
)
def test_a_megabyte_of_bait_is_read_in_linear_time(bait) -> None:
    # A quadratic pattern would take hours here, and the suite's time limit would end it.
    text = bait * (1024 * 1024 // len(bait))
    assert isinstance(redact(text)[0], str)
    payload = json.dumps({"k": text}).encode()
    assert json.loads(redact_json(payload)[0])["k"] == redact(text)[0]
