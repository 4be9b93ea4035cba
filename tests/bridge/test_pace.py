from __future__ import annotations

import pytest

from nexusd.bridge import pace


@pytest.mark.parametrize(("silence", "interval"), [(0, 3), (11, 3), (12, 3), (20, 5), (60, 15), (120, 30), (1e9, 30)])
def test_the_interval_grows_with_the_silence_between_the_two_that_were_set(silence, interval):
    assert pace.interval(silence, 3.0, 30.0) == interval


def test_two_equal_ones_are_one():
    assert {pace.interval(silence, 5.0, 5.0) for silence in range(100)} == {5.0}


def test_who_waited_longest_by_its_own_measure_is_worth_most():
    assert pace.worth(30, 3) > pace.worth(30, 30) > pace.worth(3, 30)
    assert pace.worth(3000, 30) > pace.worth(30, 3)  # nobody waits for ever
