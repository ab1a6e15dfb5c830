"""Runs that are killed end as those that are not, to the last bit and file.

By `pytest -m reliability`; one kill is tried with the other tests, in
`tests/pipeline/test_run.py`.
"""

import random
import time

import pytest
from reliability import small_runs

pytestmark = pytest.mark.reliability

# What is being written when the kill comes.
MOMENTS = (
    "config.json",
    "metrics.jsonl",
    "checkpoints/meta_training/*.partial",
    "checkpoints/meta_training/4",
    "checkpoints/meta_training/*.old.partial",
    "stages/meta_training.partial",
    "stages/meta_training",
    "stages/estimation.partial",
    "policies.json",
    "checkpoints/group_training/*.partial",
    "tensorboard/group_training/*",
    "stages/group_training.partial",
    "stages/evaluation",
    "results.json*",
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """`reference(config)` is the snapshot of a run that nobody killed, and its time."""
    known = {}

    def run(config):
        name = config["suite"]["name"]
        if name not in known:
            finish(config, tmp_path_factory.mktemp("warm"))  # compiles
            workdir = tmp_path_factory.mktemp("reference")
            process = small_runs.start(config, workdir)
            wait_for(process, workdir, "config.json")
            began = time.monotonic()
            process.join()
            seconds = time.monotonic() - began
            known[name] = small_runs.snapshot(workdir), seconds
        return known[name]

    return run


def finish(config, workdir):
    process = small_runs.start(config, workdir)
    process.join()
    assert process.exitcode == 0


def wait_for(process, workdir, pattern):
    """Until there is such a file, or the run has ended."""
    while process.is_alive() and not any(workdir.glob(pattern)):
        time.sleep(0.0005)


def kill(config, workdir, generator, seconds):
    """Kills a run at a random time, or soon after something random is written."""
    process = small_runs.start(config, workdir)
    if generator.random() < 0.5:
        wait_for(process, workdir, "config.json")
        time.sleep(generator.uniform(0.0, seconds))
    else:
        wait_for(process, workdir, generator.choice(MOMENTS))
        time.sleep(generator.uniform(0.0, 0.02))
    process.kill()
    process.join()


def check_kills(config, workdir, reference, seed):
    expected, seconds = reference(config)
    generator = random.Random(seed)
    for _ in range(generator.choice([1, 1, 2, 3])):
        kill(config, workdir, generator, seconds)
    finish(config, workdir)
    assert small_runs.differences(expected, small_runs.snapshot(workdir)) == []


@pytest.mark.parametrize("seed", range(60))
def test_a_killed_run_ends_as_one_that_was_not(reference, tmp_path, seed):
    check_kills(small_runs.CARTPOLE, tmp_path, reference, seed)


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_run_of_robots_ends_as_one_that_was_not(reference, tmp_path, seed):
    check_kills(small_runs.MJX, tmp_path, reference, seed)
