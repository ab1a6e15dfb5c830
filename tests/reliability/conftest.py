"""What several kinds of faults are held against."""

import pytest
from reliability import small_runs


@pytest.fixture(scope="session")
def expected(tmp_path_factory):
    """The snapshot of a run that was left alone."""
    workdir = tmp_path_factory.mktemp("expected")
    small_runs.start(small_runs.CARTPOLE, workdir).join()
    return small_runs.snapshot(workdir)
