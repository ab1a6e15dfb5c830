"""The experiment that compares the estimate with fine-tuning, at a very small size."""

import importlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from script_flags import own_flags

import pgx_jax as pge
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {
    "suites": ("cartpole_planted",),
    "layers": (1,),
    "seeds": (5,),
    "hidden_size": 8,
    "meta_updates": 1,
    "num_subsets": 24,
    "num_transitions": 128,
    "collection_envs": 8,
    "dim": 8,
    "repeats": 3,
}


@pytest.fixture(scope="module")
def speedup():
    flag_names = ("config", "workdir", "output", "add")
    with pytest.MonkeyPatch.context() as patch, own_flags(flag_names):
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("speedup")


@pytest.fixture(scope="module")
def config(speedup):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS / "configs"))
        values = importlib.import_module("speedup_cartpole").get_config().to_dict()
    values["ppo"] |= {"num_envs": 4, "unroll_length": 8, "num_epochs": 1}
    values["oracle"] |= {"num_updates": 1, "num_episodes": 2, "block_size": 9}
    return values | SMALL


@pytest.fixture(scope="module")
def first(speedup, config, tmp_path_factory):
    """The directory of a run, and what it returned."""
    directory = tmp_path_factory.mktemp("speedup")
    return directory, run(speedup, config, directory, command="python speedup.py")


def run(speedup, config, directory, **options):
    with Progress() as progress:
        return speedup.run(
            config,
            directory / "work",
            directory / "result",
            progress=progress,
            **options,
        )


def test_the_result_has_all_fields(first, config):
    directory, document = first
    assert json.loads((directory / "result.json").read_text()) == document
    (row,), (summary,) = document["rows"], document["summary"]
    assert (row["suite"], row["layers"], row["seed"]) == ("cartpole_planted", 1, 5)
    assert summary["seeds"] == [5]
    assert set(row["made_by"]) == {"command", "device", "versions", "commit"}
    # Two layers of weights and biases: 4 x 8 + 8 and 8 x 2 + 2.
    assert row["num_parameters"] == 58
    assert row["env_steps"] == {
        "meta_training": 10 * 32,
        "estimate": 10 * 128,
        "oracle": 24 * 4 * 32,
    }
    assert row["block_size"] == 8  # 24 subsets in three blocks of at most nine
    seconds, flops = row["seconds"], row["flops"]
    assert seconds["estimate"] == sorted(row["every_run"]["estimate"])[1]
    assert seconds["oracle"] == min(row["every_run"]["oracle"])
    for kind, cost in (("wall", seconds), ("flops", flops)):
        meta, estimate, oracle = (
            cost[name] for name in ("meta_training", "estimate", "oracle")
        )
        assert min(meta, estimate, oracle) > 0
        speedup = row["speedup"][kind]
        assert speedup["without_meta_training"] == pytest.approx(oracle / estimate)
        assert speedup["with_meta_training"] == pytest.approx(
            (meta + oracle) / (meta + estimate)
        )
    for name in ("estimate", "oracle_again"):
        agreement = row["agreement"][name]
        assert 0 <= agreement["nmi"] <= 1
        assert -1 <= agreement["affinity_rank_correlation"] <= 1
        assert 0 < agreement["relative_error"] <= row["relative_error_of_constant"]
        assert summary["agreement"][name] == pytest.approx(agreement)
    table = (directory / "result.md").read_text()
    assert f"| cartpole_planted | 1 | 58 | {seconds['estimate']:.3g} |" in table
    assert "python speedup.py" in table and row["made_by"]["device"] in table
    assert (directory / "result.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_run_twice(speedup, config, first, monkeypatch):
    """Neither a cell in the result nor, of an unfinished one, a stage or a block."""
    directory, document = first
    before = (directory / "result.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(speedup.Cell, "run", None)
        assert run(speedup, config, directory) == document
    assert (directory / "result.json").read_text() == before

    (directory / "result.json").unlink()
    (work,) = (directory / "work").iterdir()
    shutil.rmtree(work / "stages" / "oracle_again_2_of_3")
    finished = []
    finish = Workdir.finish

    def record(self, stage, result, info):
        finished.append(stage)
        finish(self, stage, result, info)

    with monkeypatch.context() as patch:
        patch.setattr(Workdir, "finish", record)
        resumed = run(speedup, config, directory)
    assert finished == ["oracle_again_2_of_3"]
    (old,), (new,) = document["rows"], resumed["rows"]
    for name in ("agreement", "affinity", "labels", "flops"):
        assert old[name] == new[name]
    assert old["seconds"]["estimate"] == new["seconds"]["estimate"]


def test_parts_are_put_together(speedup, config, first, tmp_path):
    _, document = first
    (row,) = document["rows"]
    other = {**row, "seed": 3, "flops": {k: 3 * x for k, x in row["flops"].items()}}
    parts = []
    for part in (row, other):
        parts.append(tmp_path / f"{part['seed']}.json")
        parts[-1].write_text(json.dumps({**document, "rows": [part]}))
    both = config | {"seeds": (3, 5)}
    merged = run(speedup, both, tmp_path, add=parts)
    assert [r["seed"] for r in merged["rows"]] == [3, 5]
    (summary,) = merged["summary"]
    mean = summary["flops"]["estimate"]
    assert mean == pytest.approx(2 * row["flops"]["estimate"])

    other["made_by"] = {**row["made_by"], "device": "abacus"}
    parts[1].write_text(json.dumps({**document, "rows": [other]}))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"several devices.*abacus"):
        run(speedup, both, tmp_path / "other", add=parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 16}, r"another config:\n  dim: 8 in the workdir, 16 now"),
        ({"dimension": 16}, "unknown field 'dimension'"),
        ({"repeats": 0}, "'repeats' must be a positive integer, got 0"),
        ({"seeds": ()}, "'seeds' must not be empty"),
        ({"suites": ("cartpoles",)}, "cartpoles"),
        ({"num_groups": 11}, "'num_groups' must be at most the 10 tasks"),
        ({"num_subsets": 3}, "num_subsets=3 cannot cover"),
        ({"ppo": {"num_env": 4}}, "num_env"),
        ({"oracle": {"num_updates": 1}}, "lacks the field 'oracle.block_size'"),
    ],
)
def test_a_wrong_config_is_refused(speedup, config, first, change, message):
    with pytest.raises(ValueError, match=message):
        run(speedup, config | change, first[0])


def test_comparison_with_scores_whose_relation_is_known(speedup):
    labels = np.array([0, 0, 0, 1, 1, 1])
    subsets = pge.sample_subsets(jax.random.key(0), 6, 20, 3)
    fellows = subsets @ (labels[:, None] == labels).astype(float)
    oracle = np.where(subsets, 100 + 10 * fellows, 0)
    # In other units, task by task, and with one mistake of a known size.
    estimate = np.where(subsets, fellows * np.arange(1, 7) - 5, 0)
    result = speedup.report.compare(
        subsets,
        {"estimate": estimate, "oracle": oracle, "oracle_again": -oracle},
        2,
        tuple(labels),
    )
    assert result["labels"]["oracle"] == labels.tolist()
    assert result["planted_nmi"]["estimate"] == 1
    agreement = result["agreement"]["estimate"]
    assert agreement["nmi"] == pytest.approx(1)
    assert agreement["score_rank_correlation"] == pytest.approx(1)
    assert agreement["relative_error"] == pytest.approx(0, abs=1e-6)
    again = result["agreement"]["oracle_again"]
    assert again["affinity_rank_correlation"] == pytest.approx(-1)
    # A negative factor is a linear function too.
    assert again["relative_error"] == pytest.approx(0, abs=1e-6)
    # Each task is in 3, 6 and 1 subsets with none, one and two of its group.
    f = np.array([110.0] * 3 + [120.0] * 6 + [130.0])
    expected = np.sqrt(np.sum((f - f.mean()) ** 2) / np.sum(f**2))
    assert result["relative_error_of_constant"] == pytest.approx(expected)
