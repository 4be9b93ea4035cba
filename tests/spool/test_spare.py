"""What is wrong is written down also where no file can be opened any more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

EXHAUST = """
import os, resource, sys
from nexusd.spool import atomic, spare
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
if sys.argv[2] == "kept":
    spare.keep()
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
except OSError:
    pass
for n in range(3):
    atomic.replace_or_overwrite(sys.argv[1], f"blocked {n}".encode())
"""


@pytest.mark.parametrize("kept", ["kept", "not"])
def test_a_view_is_written_where_all_descriptors_are_in_use_if_one_was_kept(tmp_path, kept):
    path = tmp_path / "view"
    path.write_text("active")
    ran = subprocess.run(
        [sys.executable, "-c", EXHAUST, str(path), kept], capture_output=True, text=True, check=False, timeout=30
    )
    assert path.read_text() == ("blocked 2" if kept == "kept" else "active"), ran.stderr
    assert os.listdir(tmp_path) == ["view"]
    assert ("Too many open files" in ran.stderr) is (kept == "not")
