"""So many requests an address and minute."""

from __future__ import annotations

from nexusd.relay.limit import RateLimit

from .conftest import refused


def test_one_too_many_in_a_minute_is_refused_and_told_how_long_to_wait(clock) -> None:
    limit = RateLimit(3, clock)
    for _ in range(3):
        limit.take("192.0.2.1")
        clock.pass_by(10)
    with refused(429, "rate_limit_exceeded") as caught:
        limit.take("192.0.2.1")
    assert caught.value.retry_after == 30
    clock.pass_by(30)
    limit.take("192.0.2.1")
    with refused(429, "rate_limit_exceeded") as caught:
        limit.take("192.0.2.1")
    assert caught.value.retry_after == 10


def test_each_address_has_its_own_budget(clock) -> None:
    limit = RateLimit(1, clock)
    limit.take("192.0.2.1")
    limit.take("192.0.2.2")
    with refused(429, "rate_limit_exceeded"):
        limit.take("192.0.2.1")


def test_a_network_of_ipv6_addresses_counts_as_one(clock) -> None:
    limit = RateLimit(1, clock)
    limit.take("2001:db8::1")
    with refused(429, "rate_limit_exceeded"):
        limit.take("2001:db8::2")
    limit.take("2001:db8:0:1::1")
    limit.take("::ffff:192.0.2.1")
    with refused(429, "rate_limit_exceeded"):
        limit.take("192.0.2.1")


def test_zero_is_no_limit(clock) -> None:
    limit = RateLimit(0, clock)
    for _ in range(1000):
        limit.take("192.0.2.1")
    assert len(limit) == 0


def test_a_minute_of_silence_is_forgotten(clock) -> None:
    limit = RateLimit(5, clock)
    limit.take("192.0.2.1")
    clock.pass_by(60)
    limit.take("192.0.2.2")
    assert len(limit) == 1


def test_a_flood_from_many_addresses_does_not_fill_the_memory(clock) -> None:
    limit = RateLimit(5, clock, addresses=100)
    for number in range(1000):
        limit.take(f"198.51.{number // 250}.{number % 250}")
    assert len(limit) <= 101
