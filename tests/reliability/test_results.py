"""Results that no run has are refused by name, and nothing of them is drawn."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import sys

import pytest
from absl.testing import flagsaver
from reporting.conftest import add_uncertainty, make_results

from pgx_jax.cli import aggregate as command
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.page import write_report
from pgx_jax.runs.digests import Damaged

EXPECTED = {
    "mean": 2.0,
    "deviation": 1.0,
    "lower": 0.5,
    "upper": 3.5,
    "verdict": "pays",
}
N = 4
ONE_LONGER = [0.5] * (N + 1)


def make_valid():
    """Results with everything that a run may report, as a file holds them."""
    results = dataclasses.asdict(
        add_uncertainty(make_results(num_tasks=N, num_updates=6))
    )
    shares = [[0.5] * N]
    for method in results["methods"]:
        draws = len(method["source"])
        method["source"] = [[row[:2] for row in x] for x in method["source"]]
        method["target"] = [[row[:2] for row in x[:3]] for x in method["target"]]
        method |= {
            "grouping": "estimated",
            "env_steps": {"meta_training": 64},
            "scalarized": [1.5] * draws,
            "predicted": [0.5] * draws,
            "success": shares * draws,
            "sampled_success": shares * draws,
            "sampled_return": shares * draws,
        }
    for curve in results["learning_curves"].values():
        curve["success"] = [[0.5] * N for _ in curve["steps"]]
    results["collection"] = {
        "num_transitions": [64, 128],
        "agreement": [0.5, 0.9],
        "stable_agreement": 0.8,
        "is_stable": True,
    }
    results["gains"] = [
        {
            "num_groups": 2,
            "labels": [0, 0, 1, 1],
            "measured": 100.5,
            "over_one_policy": EXPECTED,
            "over_single_tasks": EXPECTED,
            "over_random_groups": EXPECTED,
        }
    ]
    return results | {
        "config": PipelineConfig().to_dict(),
        "scalarization": "minimum",
    }


VALID = make_valid()


def change(*changes):
    """The valid results with the value at some paths replaced, or without it."""
    results = copy.deepcopy(VALID)
    for path, value in changes:
        place = results
        for name in path[:-1]:
            place = place[name]
        if value is KeyError:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    return results


def write(directory, results):
    directory.mkdir(exist_ok=True)
    path = directory / "results.json"
    path.write_text(json.dumps(results))
    return path


def refuses(path):
    """The one line by which a file is refused; None where it is taken."""
    try:
        RunResults.from_json(path)
    except Damaged as error:
        assert str(error).startswith(f"{path} holds no results of a run: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
        return str(error)
    return None


def places(value, path=()):
    """Paths to every value of every field; of long lists to the first and the last."""
    if path[:1] in (("config",), ("versions",)):
        return
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from places(entry, (*path, name))
    elif isinstance(value, list):
        for index in sorted({0, len(value) - 1} if value else ()):
            yield from places(value[index], (*path, index))


def wrong_values(path, value):
    """Of another type, not finite, or of another shape."""
    if isinstance(value, str):
        yield from (3, True, ["x"], {})
        if path != ("scalarization",) and path != ("commit",):
            yield None
        return
    if isinstance(value, dict):
        yield from ([], "x", 1.5, [value])
        return
    if isinstance(value, list):
        yield from ("x", 1.5, {}, [value], [*value, {}], [*value, "x"])
        return
    yield from ("x", [1.0], {"x": 1.0}, "1.0")
    if isinstance(value, bool):
        yield from (1, 0.5, math.nan)
        return
    yield from (True, 1e400, -1e400)
    if not may_be_unknown(path):
        yield math.nan


def may_be_unknown(path):
    """Whether NaN says that something is not known (yet)."""
    diagonal = path[-2:] in ((0, 0), (N - 1, N - 1))
    return (
        path[0] in ("learning_curves", "relative_distance")
        or (path[0] == "affinity" and diagonal)
        or (path[0] == "uncertainty" and path[1] in ("lower", "upper") and diagonal)
    )


def test_results_with_everything_are_taken_and_drawn(tmp_path):
    path = write(tmp_path, VALID)
    assert refuses(path) is None
    assert write_report(RunResults.from_json(path), tmp_path).is_file()


@pytest.mark.reliability
def test_no_wrong_value_at_any_place_is_taken(tmp_path):
    tried, taken = 0, []
    for path, value in places(VALID):
        for wrong in wrong_values(path, value):
            infinite = isinstance(wrong, float) and math.isinf(wrong)
            if infinite and may_be_unknown(path) and path[0] != "learning_curves":
                continue
            tried += 1
            if refuses(write(tmp_path, change((path, wrong)))) is None:
                taken.append((path, wrong))
    assert taken == []
    assert tried > 1000


FIRST = ("methods", 0)
GAIN = ("gains", 0)
CURVE = ("learning_curves", "meta-training")
# What is of the right type and yet of no run.
NONSENSE = [
    (("task_names",), ["a"]),
    (("episode_length",), 0),
    (("seed",), -1),
    (("seed",), 2**32),
    (("affinity",), [[0.0] * N] * (N - 1)),
    (("affinity", 0), ONE_LONGER),
    (("affinity", 0, 1), None),
    (("pair_counts", 0, 1), -1),
    (("num_subsets",), 0),
    (("subset_size",), N + 1),
    (("converged_share",), 1.5),
    (("relative_distance",), {"median": 0.5}),
    (("groups",), {"planted": [0] * N}),
    (("groups", "estimated"), [0] * (N + 1)),
    (("groups", "estimated", 0), -1),
    (("groups", "estimated", 0), N),
    (("nmi", "estimated"), 1.5),
    (("uncertainty", "nmi"), []),
    (("uncertainty", "nmi", 0), -0.5),
    (("uncertainty", "lower", 0, 1), 1e6),
    (("uncertainty", "co_assignment", 0, 1), 2.0),
    (("uncertainty", "upper"), KeyError),
    (("collection", "agreement"), [0.5]),
    (("collection", "num_transitions", 0), 0),
    (("methods",), []),
    (("methods", 1, "name"), VALID["methods"][0]["name"]),
    ((*FIRST, "num_policies"), 0),
    ((*FIRST, "num_policies"), N + 1),
    ((*FIRST, "source"), KeyError),
    ((*FIRST, "source", 0), [[1.0, 2.0]] * (N - 1)),
    ((*FIRST, "source", 0, 0), [1.0]),
    ((*FIRST, "target", 0, 0), []),
    ((*FIRST, "grouping"), "no such groups"),
    ((*FIRST, "success", 0, 0), 1.5),
    ((*FIRST, "success"), [[0.5] * N] * 2),
    ((*FIRST, "scalarized"), [1.0, 2.0]),
    ((*FIRST, "predicted"), []),
    ((*FIRST, "env_steps", "meta_training"), -1),
    ((*FIRST, "surprise"), 1.0),
    ((*CURVE, "steps", 1), 0.0),
    ((*CURVE, "steps"), []),
    ((*CURVE, "returns"), [[0.0] * N]),
    ((*CURVE, "success", 5, 0), -0.1),
    (("timings", 0, "seconds"), -1.0),
    ((*GAIN, "num_groups"), 0),
    ((*GAIN, "labels"), [0, 0, 1]),
    ((*GAIN, "labels", 0), N),
    ((*GAIN, "over_one_policy", "verdict"), "perhaps"),
    ((*GAIN, "over_one_policy", "lower"), 9.0),
    ((*GAIN, "over_one_policy", "deviation"), -1.0),
    (("surprise",), 1.0),
    (("groups",), KeyError),
    (("affinity",), KeyError),
]


@pytest.mark.parametrize(("path", "value"), NONSENSE)
def test_nonsense_is_refused_by_the_name_of_its_field(tmp_path, path, value):
    message = refuses(write(tmp_path, change((path, value))))
    assert message is not None
    assert path[0] in message
    # The same for whoever fills the class by hand.
    with pytest.raises((ValueError, TypeError, KeyError)):
        RunResults(**change((path, value)))


@pytest.fixture
def run_command(tmp_path, monkeypatch):
    """`run_command(results)`: what aggregating them with sound ones ends with."""

    def run_it(results):
        write(tmp_path / "sound", VALID)
        path = write(tmp_path / "other", results)
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "pgx_jax aggregate",
                "--curves",
                f"--output={tmp_path / 'table'}",
                str(tmp_path / "sound"),
                str(path.parent),
            ],
        )
        with flagsaver.flagsaver():
            try:
                command.main()
            except SystemExit as error:
                return error.code
        return None

    return run_it


OTHER_SEED = [(("seed",), 1), (("config", "seed"), 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([(("affinity", 0, 1), math.nan)], "affinity must be finite"),
        ([((*FIRST, "source", 0, 0, 0), "x")], "methods[0]['source'][0][0][0] must be"),
        ([(("task_names",), ["a", "b", "c", "d"])], "is of different tasks than"),
        ([((*FIRST, "name"), "another")], "is of different methods than"),
        (
            [((*FIRST, "target"), [[[1.0, 1.0]] * 2])],
            "is of different methods than",
        ),
        ([(("config", "checkpoint_every"), 7)], "is of different settings than"),
        ([(("config", "checkpoint_every"), -7)], "holds no settings of a run"),
        ([(("config", "estimation"), 3)], "holds no settings of a run"),
        ([(("learning_curves",), {})], "the run of seed 1 has no learning curves"),
        ([((*CURVE, "success"), KeyError)], "the run of seed 1 has curves of returns"),
    ],
)
def test_what_cannot_be_aggregated_names_the_file(
    run_command, tmp_path, changes, message
):
    error = run_command(change(*OTHER_SEED, *changes))
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert str(tmp_path / "other") in error or "seed 1" in error
    assert not list(tmp_path.glob("table*"))


def test_sound_results_are_aggregated(run_command, tmp_path):
    assert run_command(change(*OTHER_SEED)) is None
    assert len(list(tmp_path.glob("table*"))) == 3
