"""Session keys."""

from __future__ import annotations

from nexusd.relay import keys

from .conftest import entropy


def test_a_key_has_256_bits_and_opens_its_own_digest_alone() -> None:
    draw = entropy()
    key, digest = keys.issue(draw)
    other, _ = keys.issue(draw)
    assert len(bytes.fromhex(key)) == 32
    assert keys.opens(digest, key)
    assert not keys.opens(digest, other)
    assert not keys.opens(digest, key.upper())
    assert not keys.opens(digest, "")


def test_the_digest_is_not_the_key() -> None:
    key, digest = keys.issue(entropy())
    assert bytes.fromhex(key) != digest


def test_a_key_of_odd_characters_opens_nothing_and_breaks_nothing() -> None:
    _, digest = keys.issue(entropy())
    assert not keys.opens(digest, "\xff\udcff")
