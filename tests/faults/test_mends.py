"""Without a mend its tests fail: each is taken out, one by one."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.without import MENDS, owner


@pytest.mark.parametrize("mend", MENDS)
def test_what_a_mend_names_is_there(mend):
    """The slow test below would say that a test fails without it, if only the plugin failed."""
    row = MENDS[mend]
    if isinstance(row.take_out, functools.partial):
        where, name, _ = row.take_out.args
        assert owner(where, name)
    path, _, name = row.test.partition("::")
    assert re.search(rf"^(async )?def {name}", Path(path).read_text(), re.MULTILINE)


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
