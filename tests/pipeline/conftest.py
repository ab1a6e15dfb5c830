"""One small run that tests of several files look at."""

import pytest
from small_run import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The workdir of a finished run, its results and its report."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, *run(workdir)
