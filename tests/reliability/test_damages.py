"""Damage to any file of a workdir is either mended or told, and never passes.

By `pytest -m reliability`; parts of a workdir are damaged with the other tests, in
`tests/runs/test_damage.py`.
"""

import contextlib
import io
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from reliability import small_runs

from pgx_jax.pipeline import load_policies
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.results import RunResults
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.rendering import restore_policies
from pgx_jax.runs.progress import Progress

pytestmark = pytest.mark.reliability

STAGES = ("meta_training", "estimation", "grouping", "group_training", "evaluation")
ARRAYS = "{}/ocdbt.process_0/d/*"  # the largest of those
OF_A_RUN = (
    "config.json",
    "policies.json",
    "results.json",
    "metrics.jsonl",
    "tensorboard/meta_training/events*",
    "tensorboard/group_training/events*",
)
OF_A_STAGE = (
    "info.json",
    "metrics.jsonl",
    "seal.json",
    ARRAYS.format("result"),
    "result/_METADATA",
    "result/manifest.ocdbt",
)
OF_A_CHECKPOINT = (
    "info.json",
    "metrics.jsonl",
    "seal.json",
    ARRAYS.format("state"),
    "state/_METADATA",
    "state/manifest.ocdbt",
    "state/ocdbt.process_0/manifest.ocdbt",
)
NEWEST = "checkpoints/group_training/6"
DAMAGES = ("flip at 10%", "flip at 50%", "flip at 90%", "cut", "empty", "delete")


def single_files():
    """(workdir, file, damage) for every kind of file and damage."""
    for damage in (*DAMAGES, "swap"):
        for name in OF_A_RUN:
            yield "finished", name, damage
        for i, name in enumerate(OF_A_STAGE):
            stage = STAGES[(i + len(damage)) % len(STAGES)]
            if name == "metrics.jsonl":  # of others it is empty
                stage = "meta_training"
            yield "finished", f"stages/{stage}/{name}", damage
        for name in OF_A_CHECKPOINT:
            yield "under way", f"{NEWEST}/{name}", damage
    for stage in STAGES:
        for damage in DAMAGES[:3]:
            yield "finished", f"stages/{stage}/{ARRAYS.format('result')}", damage


def directories():
    """(workdir, directory, damage or new name) of whole directories."""
    for stage in STAGES:
        yield "finished", f"stages/{stage}", "swap"
        yield "finished", f"stages/{stage}", "delete"
    yield "finished", "stages/meta_training", "stages/group_training"
    yield "finished", "stages/evaluation", "stages/grouping"
    yield "finished", "stages", "delete"
    yield "under way", NEWEST, "swap"
    yield "under way", NEWEST, "delete"
    yield "under way", NEWEST, "checkpoints/group_training/8"
    yield "under way", NEWEST, "checkpoints/group_training/5"
    yield "under way", "checkpoints/group_training/4", NEWEST
    yield "under way", "checkpoints", "delete"
    yield "under way", "checkpoints/group_training", "swap"


CASES = [*dict.fromkeys([*single_files(), *directories()])]


class Stopping(Progress):
    """Stops a run after some calls, as a user does."""

    def __init__(self, calls):
        super().__init__(stream=io.StringIO())
        self._calls = calls

    def update(self, steps, returns=None):
        self._calls -= 1
        if not self._calls:
            raise KeyboardInterrupt


def go_on(workdir, seed=0, progress=None):
    """Runs or resumes; returns what the progress has said."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config = PipelineConfig.from_dict(small_runs.CARTPOLE | {"seed": seed})
    stream = io.StringIO()
    run_pipeline(config, workdir, progress=progress or Progress(stream=stream))
    return stream.getvalue()


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A finished run, one stopped after update 6 of group training; two seeds each."""
    made = {}
    for seed in (0, 1):
        for name, calls in (("finished", 0), ("under way", 4 + 3)):
            made[name, seed] = workdir = tmp_path_factory.mktemp(f"run{seed}")
            with contextlib.suppress(KeyboardInterrupt):
                go_on(workdir, seed, Stopping(calls))
    return made


@pytest.fixture(scope="module")
def expected(workdirs):
    workdir = workdirs["finished", 0]
    return small_runs.snapshot(workdir), read(workdir)


def read(workdir):
    """What those who only read take from a run."""

    def policies():
        _, found = restore_policies(workdir)
        return jax.tree.map(np.asarray, (found.params, found.policy_ids))

    def loaded():
        found = load_policies(workdir)
        return jax.tree.map(np.asarray, (found.params, found.labels))

    def results():
        found = dict(vars(RunResults.from_json(workdir / "results.json")))
        return {x: found[x] for x in found if x not in small_runs.CLOCKS}

    return {"restore": policies, "load": loaded, "results": results}


def largest(workdir, pattern) -> Path:
    return max(workdir.glob(pattern), key=lambda path: path.stat().st_size)


def inflict(damage, workdir, pattern, other):
    """Damages a file or a directory, in place of which `other` has another."""
    path = largest(workdir, pattern)
    if damage == "delete":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif damage == "swap":
        substitute = largest(other, pattern)
        if path.is_dir():
            shutil.rmtree(path)
            shutil.copytree(substitute, path)
        else:
            shutil.copy(substitute, path)
    elif damage in ("cut", "empty"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2 if damage == "cut" else 0])
    elif damage.startswith("flip"):
        data = bytearray(path.read_bytes())
        share = int(damage.split()[-1][:-1]) / 100
        bit = random.Random(f"{pattern} {damage}").randrange(8)
        data[int(share * (len(data) - 1))] ^= 1 << bit
        path.write_bytes(data)
    else:
        target = workdir / damage
        if target.exists():
            shutil.rmtree(target)
        path.rename(target)


def check_told(error, workdir):
    """One line that names a file of the workdir and says what to do.

    That a workdir is of another config is told by the fields that differ as well.
    """
    text = str(error).partition("What differs:\n")[0]
    assert str(workdir) in text and "\n" not in text
    remedies = ("put back", "the command", "another", "no checkpoint yet")
    assert any(remedy in text for remedy in remedies)


@pytest.mark.parametrize(("state", "pattern", "damage"), CASES)
def test_damage_is_mended_or_told(
    workdirs, expected, tmp_path, record_property, state, pattern, damage
):
    workdir = tmp_path / "run"
    shutil.copytree(workdirs[state, 0], workdir)
    inflict(damage, workdir, pattern, workdirs[state, 1])
    snapshot, values = expected
    if state == "finished":
        for name, value in read(workdir).items():
            try:
                np.testing.assert_equal(value(), values[name]())
            except ValueError as error:
                check_told(error, workdir)
    try:
        said = go_on(workdir)
    except (ValueError, OSError) as error:
        check_told(error, workdir)
        record_property("outcome", f"told: {error}")
        return
    assert small_runs.differences(snapshot, small_runs.snapshot(workdir)) == []
    notes = [line for line in said.splitlines() if str(workdir) in line]
    record_property("outcome", f"mended: {notes}")
