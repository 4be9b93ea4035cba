"""Without a mend its tests fail: each is taken out, one by one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.without import MENDS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mend", MENDS)
def test_without_a_mend_its_tests_fail(mend):
    path, _, name = MENDS[mend].test.partition("::")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.faults.without", "--without", mend),
            *(path, "-k", name, "-x", "-p", "no:cacheprovider", "-o", "addopts="),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout[-2_000:]
