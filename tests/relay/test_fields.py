"""What a request may say."""

from __future__ import annotations

import pytest

from nexusd.relay import fields

from .conftest import refused


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"a":NaN}', b'\xff{"a":1}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"\xef\xbb\xbf{}"],
)
def test_what_is_not_strict_json_is_invalid_json(body) -> None:
    with refused(400, "invalid_json"):
        fields.body_object(body)


def test_json_nested_beyond_all_measure_is_refused_and_not_fatal() -> None:
    with refused(400, "invalid_json"):
        fields.body_object(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"'])
def test_json_that_is_no_object_is_an_invalid_body(body) -> None:
    with refused(400, "invalid_body"):
        fields.body_object(body)


def test_a_creation_without_a_body_asks_for_the_defaults() -> None:
    assert fields.creation(b"") == fields.creation(b"{}") == fields.Creation()


def test_a_creation_is_read_whole_and_what_is_unknown_is_left_alone() -> None:
    body = b'{"ttl":60,"maxAgents":2,"greeting":"hi","creatorAgentId":"alice","more":[]}'
    assert fields.creation(body) == fields.Creation(60, 2, "hi", "alice")


def test_every_wrong_type_of_a_creation_is_named() -> None:
    with refused(400, "invalid_request") as caught:
        fields.creation(b'{"ttl":true,"maxAgents":"2","greeting":1,"creatorAgentId":{}}')
    assert [detail.split()[0] for detail in caught.value.details] == ["ttl", "maxAgents", "greeting", "creatorAgentId"]


def test_a_renewal_needs_a_body_and_may_ask_for_a_ttl() -> None:
    assert fields.renewal(b"{}") is None
    assert fields.renewal(b'{"ttl":120}') == 120
    with refused(400, "invalid_json"):
        fields.renewal(b"")
    with refused(400, "invalid_request"):
        fields.renewal(b'{"ttl":"120"}')


def test_a_message_keeps_its_json_to_the_byte() -> None:
    assert fields.sending(b'{"json": {"n": 1.10, "big": 123456789012345678901}}') == (
        None,
        b'{"n": 1.10, "big": 123456789012345678901}',
    )
    assert fields.sending('{"text":"grüß","json":[]}'.encode()) == ("grüß", b"[]")


@pytest.mark.parametrize("payload", [b"false", b"0", b'""', b"[]", b"{}"])
def test_an_empty_json_value_is_a_message_too(payload) -> None:
    assert fields.sending(b'{"json":' + payload + b"}") == (None, payload)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"text":""}', b'{"text":1}', b'{"text":null,"json":null}', b'{"text":"","json":1}']
)
def test_a_message_without_content_is_refused(body) -> None:
    with refused(400, "invalid_request"):
        fields.sending(body)


@pytest.mark.parametrize("body", [b"{}", b'{"sessionId":1}', b'{"sessionId":null}'])
def test_pairing_needs_a_session_id(body) -> None:
    with refused(400, "invalid_request") as caught:
        fields.paired_session(body)
    assert "sessionId" in caught.value.message


def test_a_wait_is_up_to_sixty_seconds() -> None:
    assert [fields.seconds(wait) for wait in (None, "0", "60", "0.5")] == [0.0, 0.0, 60.0, 0.5]


@pytest.mark.parametrize("wait", ["", "61", "60.001", "-1", "nan", "1e1", "1_0"])
def test_any_other_wait_is_refused(wait) -> None:
    with refused(400, "invalid_request"):
        fields.seconds(wait)
