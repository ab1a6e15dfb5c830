"""A run that cannot write ends in one line, and goes on once it can.

By `pytest -m reliability`; a full disk is tried with the other tests, in
`tests/runs/test_damage.py`.
"""

import re

import pytest
from reliability import small_runs

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("file_size", [600, 1_000, 4_000, 10_000, 14_000, 18_000])
def test_a_file_size_limit_ends_the_run_in_one_line(expected, tmp_path, file_size):
    workdir = tmp_path / "run"
    process = small_runs.start(small_runs.CARTPOLE, workdir, file_size=file_size)
    process.join()
    (line,) = small_runs.said(process, workdir)
    assert process.exitcode == 1
    assert re.fullmatch(
        rf"error: .*{workdir}.*: File too large; .* command again", line
    )
    assert not list(workdir.rglob("*.partial"))

    process = small_runs.start(small_runs.CARTPOLE, workdir)
    process.join()
    assert process.exitcode == 0
    assert small_runs.differences(expected, small_runs.snapshot(workdir)) == []
