"""Two runs in one workdir, and a workdir that goes away, end in one line.

By `pytest -m reliability`; the lock is tried with the other tests, in
`tests/runs/test_locks.py`, and a workdir that is gone in `tests/runs/test_damage.py`.
"""

import shutil
import time

import pytest
from reliability import small_runs

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("delay", [0.0, 0.0, 0.5, 2.0])
def test_of_two_runs_in_one_workdir_one_is_refused(expected, tmp_path, delay):
    workdir = tmp_path / "run"
    processes = [small_runs.start(small_runs.CARTPOLE, workdir)]
    time.sleep(delay)
    processes.append(small_runs.start(small_runs.CARTPOLE, workdir))
    for process in processes:
        process.join()
    first, second = sorted(processes, key=lambda process: process.exitcode)
    assert (first.exitcode, second.exitcode) == (0, 1)
    (line,) = small_runs.said(second, workdir)
    assert line.startswith(f"error: workdir '{workdir}' is in use by ")
    assert small_runs.differences(expected, small_runs.snapshot(workdir)) == []


@pytest.mark.parametrize("moment", ["2", "6"])
@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_workdir_that_goes_away_ends_the_run(expected, tmp_path, how, moment):
    workdir = tmp_path / "run"
    process = small_runs.start(small_runs.CARTPOLE, workdir)
    while not (workdir / "checkpoints" / "meta_training" / moment).exists():
        assert process.is_alive()
        time.sleep(0.001)
    if how == "moved":
        workdir.rename(tmp_path / "elsewhere")
    while workdir.exists():  # files may go, or come, while they are deleted
        shutil.rmtree(workdir, ignore_errors=True)
    process.join()
    (line,) = small_runs.said(process, workdir)
    assert process.exitcode == 1
    told = "the workdir was removed, moved or changed during the run" in line
    # While files are deleted one by one, the config may be the last to go.
    assert told or (how == "removed" and "cannot be written to" in line)
    assert str(workdir) in line and not workdir.exists()
    if how == "moved":
        (tmp_path / "elsewhere").rename(workdir)
        small_runs.start(small_runs.CARTPOLE, workdir).join()
        assert small_runs.differences(expected, small_runs.snapshot(workdir)) == []
