import math

import pytest

from nexusd.config.values import duration, size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("61m", 3660.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("1.5h", 5400.0),
        ("0", 0.0),
        ("90", 90.0),
        (" 10 s ", 10.0),
        (30, 30.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_seconds_however_it_is_written(written, seconds):
    assert duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "banana",
        "5 minutes",
        "-5s",
        "s",
        "1e9",
        "٣s",
        "5S",
        -1,
        math.inf,
        math.nan,
        True,
        None,
        [],
        "9" * 39,
        10**400,
    ],
)
def test_a_duration_that_cannot_be_read_says_what_would_be_right(written):
    with pytest.raises(ValueError, match='"7d"'):
        duration(written)


@pytest.mark.parametrize(
    ("written", "amount"),
    [("256KiB", 262144), ("64MiB", 67108864), ("1GiB", 1 << 30), ("10kB", 10000), ("1.5KiB", 1536), ("7", 7), (0, 0)],
)
def test_a_size_is_bytes_however_it_is_written(written, amount):
    assert size(written) == amount
    assert type(size(written)) is int


@pytest.mark.parametrize(
    "written", ["", "lots", "64mib", "-1", "0.5", 1.5, -1, True, None, math.nan, math.inf, "9" * 30]
)
def test_a_size_that_cannot_be_read_says_what_would_be_right(written):
    with pytest.raises(ValueError, match='"64MiB"'):
        size(written)


def test_a_number_too_large_for_any_clock_or_disk_is_refused_too():
    with pytest.raises(ValueError, match="100 years"):
        duration(10**400)
    with pytest.raises(ValueError, match='"64MiB"'):
        size(10**400)
