from __future__ import annotations

import pytest

from nexusd.timestamps import stamp, stamp_if_known, timestamp


@pytest.mark.parametrize(
    ("at", "text"), [(0.0, "1970-01-01T00:00:00.000Z"), (1_800_000_000.1234, "2027-01-15T08:00:00.123Z")]
)
def test_times_are_utc_with_milliseconds_and_a_z(at, text):
    assert stamp(at) == text
    assert timestamp(text) == pytest.approx(at, abs=0.001)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.500+00:00", 60.5),
        ("1970-01-01T02:01:00+02:00", 60.0),
        ("1970-01-01T00:01:00", None),  # in which zone?
        ("yesterday", None),
        (60, None),
        (None, None),
        ("9999-99-99T00:00:00Z", None),
    ],
)
def test_a_time_is_read_only_where_it_says_its_zone(value, at):
    assert timestamp(value) == at


@pytest.mark.parametrize("year", [1, 1600, 2300, 9999])
def test_case_189_a_date_that_nobody_can_mean_is_unknown(year):
    assert timestamp(f"{year:04}-01-01T00:00:00Z") is None


@pytest.mark.parametrize("at", [1e18, -1e18, 253_402_300_800.0, float("inf"), float("nan"), None])
def test_case_189_a_time_beyond_the_calendar_has_no_stamp(at):
    assert stamp_if_known(at) is None
