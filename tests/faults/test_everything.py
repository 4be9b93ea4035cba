"""Everything at once, with real processes."""

from __future__ import annotations

import pytest

from tests.faults.everything import main


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_when_everything_that_happened_has_passed_all_is_well_and_nothing_was_lost(seed, tally):
    main(120, seed)
    tally("minute of everything", 2)
