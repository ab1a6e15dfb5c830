"""The table of several runs."""

import json
import sys

import numpy as np
import pytest
from absl.testing import flagsaver
from scipy import stats

from pgx_jax.cli import aggregate as command
from pgx_jax.pipeline.config import FORMER_WAY, PipelineConfig
from pgx_jax.pipeline.results import RunResults
from pgx_jax.reporting.aggregate import aggregate, aggregate_page, draw_curves


def make_run(seed, returns, config=None, task_names=("a", "b"), **method):
    """A run with one way of grouping; returns [draws, tasks, episodes]."""
    n = len(task_names)
    config = PipelineConfig().to_dict() if config is None else config
    return RunResults(
        name="two",
        task_names=list(task_names),
        episode_length=10,
        seed=seed,
        affinity=np.zeros((n, n)),
        affinity_method="standardized",
        pair_counts=np.ones((n, n), int),
        num_subsets=1,
        subset_size=2,
        relative_distance={"median": 0.1, "max": 0.1},
        converged_share=1.0,
        groups={"estimated": [0] * n},
        methods=[
            {
                "name": "estimated groups",
                "description": "",
                "num_policies": 1,
                "grouping": "estimated",
                "source": returns,
                "target": None,
                **method,
            }
        ],
        learning_curves={},
        timings=[{"stage": "meta training", "seconds": 2.0, "env_steps": 1}],
        config={**config, "seed": seed},
    )


def test_means_are_over_episodes_tasks_draws_and_then_seeds():
    runs = [
        make_run(0, [[[1.0, 3.0], [5.0, 7.0]]], success=[[0.0, 0.5]]),
        make_run(1, [[[2.0, 2.0], [2.0, 2.0]]], success=[[1.0, 1.0]]),
    ]
    table = aggregate(runs)
    summary = table["methods"]["estimated groups"]
    assert summary["source"]["per_seed"] == [4.0, 2.0]
    assert summary["source"]["mean"] == 3.0
    assert summary["success"]["per_task"] == [0.5, 0.75]
    page = aggregate_page(table, "it")
    (line,) = [x for x in page.splitlines() if x.startswith("| estimated groups")]
    # The t quantile of one degree of freedom is 12.706; errors are 1 and 37.5%.
    assert "| 3.0 [-9.7, 15.7] | 62.5% [-414.0%, 539.0%] |" in line
    assert "| a | 50.0% |" in page and "| b | 75.0% |" in page


def test_columns_are_those_that_every_run_has():
    returns = np.ones((1, 2, 2))
    runs = [
        make_run(0, returns, sampled_return=[[2.0, 4.0]], scalarized=[-0.25]),
        make_run(1, returns, sampled_return=[[6.0, 8.0]]),
    ]
    summary = aggregate(runs)["methods"]["estimated groups"]
    assert summary["sampled_return"]["per_seed"] == [3.0, 7.0]
    assert "scalarized" not in summary and "success" not in summary
    alone = aggregate_page(aggregate(runs[:1]), "it")
    assert "scalarized" in alone and "| -0.25 |" in alone
    assert "Success" not in alone


def test_intervals_are_over_seeds_and_not_over_draws():
    """Three seeds whose draws differ far more than their means 1, 2 and 4 do."""
    runs = [
        make_run(
            seed,
            mean + 100.0 * np.array([-1, 0, 1])[:, None, None] * np.ones((1, 2, 4)),
        )
        for seed, mean in enumerate([1.0, 2.0, 4.0])
    ]
    summary = aggregate(runs)["methods"]["estimated groups"]["source"]
    assert summary["per_seed"] == [1.0, 2.0, 4.0]
    expected = stats.ttest_1samp([1.0, 2.0, 4.0], 0.0).confidence_interval()
    np.testing.assert_allclose(summary["interval"], expected)


def test_methods_are_compared_within_seeds():
    """Seeds differ by hundreds, the methods by 1, 2 and 3 in each."""
    runs = []
    for seed, gain in enumerate([1.0, 2.0, 3.0]):
        run = make_run(seed, 100.0 * seed * np.ones((1, 2, 2)))
        ours = run.methods[0]
        ours["env_steps"] = {"meta_training": 10, "estimation": 2, "group_training": 4}
        other = {**ours, "name": "one policy"}
        other["source"] = ((100.0 * seed - gain) * np.ones((2, 2, 2))).tolist()
        other["env_steps"] = {"meta_training": 10, "group_training": 6}
        run.methods.append(other)
        runs.append(run)
    table = aggregate(runs)
    ours, other = (
        table["methods"][x]["source"] for x in ("estimated groups", "one policy")
    )
    assert "difference" not in ours
    assert other["difference"]["per_seed"] == [1.0, 2.0, 3.0]
    expected = stats.ttest_rel(
        ours["per_seed"], other["per_seed"]
    ).confidence_interval()
    np.testing.assert_allclose(other["difference"]["interval"], expected)
    page = aggregate_page(table, "it")
    assert "| one policy | 2.0 [-0.5, 4.5] |\n" in page
    assert "| estimated groups | 10 | 2 | 4 | 16 |\n" in page
    assert "| one policy | 10 | 0 | 6 | 16 |\n" in page


def test_groups_of_seeds_and_how_far_they_agree():
    names, returns = list("abcdef"), np.ones((1, 6, 2))
    runs = [make_run(seed, returns, task_names=names) for seed in range(2)]
    runs[0].groups["estimated"] = [0, 0, 0, 1, 1, 1]
    runs[1].groups["estimated"] = [1, 1, 1, 0, 0, 0]
    runs[1].uncertainty = {"nmi": [0.25, 0.75]}
    agreement = aggregate(runs)["agreement"]
    assert agreement["seeds"] == 1.0
    # Of the 20 ways to split six tasks in halves, 2 agree to 1 and 18 to 0.082.
    assert agreement["chance"] == pytest.approx(0.17, abs=0.03)
    assert agreement["resamples"] == [None, 0.5]
    page = aggregate_page(aggregate(runs), "it")
    assert "- seed 0: a, b, c | d, e, f\n" in page
    assert "- seed 1: d, e, f | a, b, c (bootstrap resamples: 0.50)\n" in page
    assert "between seeds: 1.00; by chance: 0.1" in page

    alone = aggregate(runs[:1])
    assert alone["agreement"]["seeds"] is None
    assert "between seeds" not in aggregate_page(alone, "it")


def test_settings_that_a_run_did_not_know_have_their_defaults():
    returns = np.ones((1, 2, 2))
    old, other = PipelineConfig().to_dict(), PipelineConfig().to_dict()
    del old["evaluation"]["sampled_too"]
    other["ppo"]["discount"] = 0.5
    assert aggregate([make_run(0, returns), make_run(1, returns, old)])
    with pytest.raises(ValueError, match="different settings"):
        aggregate([make_run(0, returns), make_run(1, returns, other)])
    # A run of a version that had the paper's way of grouping alone is one of it.
    paper = PipelineConfig.from_dict(FORMER_WAY).to_dict()
    oldest = PipelineConfig.from_dict(FORMER_WAY).to_dict()
    del oldest["estimation"]["regression"], oldest["grouping"]["method"]
    found = aggregate([make_run(0, returns, paper), make_run(1, returns, oldest)])
    assert found["config"]["grouping"]["method"] == "clustering"
    with pytest.raises(ValueError, match="repeat a seed"):
        aggregate([make_run(0, returns), make_run(0, returns)])


@pytest.mark.parametrize("has_success", [False, True])
def test_curves_have_a_panel_a_task_and_go_on_from_stage_to_stage(has_success):
    curve = {"steps": [10, 20], "returns": [[1.0, 5.0], [np.nan, 7.0]]}
    if has_success:
        curve["success"] = [[0.0, 0.5], [0.25, 1.0]]
    runs = [make_run(seed, np.ones((1, 2, 2))) for seed in (0, 1)]
    for run in runs:
        run.learning_curves = {"meta-training": curve, "group training": curve}
    figure = draw_curves(runs)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["a", "b"]
    *lines, boundary = panels[1].get_lines()
    assert len(lines) == 4 and np.asarray(boundary.get_xdata())[0] == 20
    assert [line.get_xdata().tolist() for line in lines[:2]] == [[10, 20], [30, 40]]
    expected = [0.5, 1.0] if has_success else [5.0, 7.0]
    np.testing.assert_allclose(lines[1].get_ydata(), expected)
    assert figure._supylabel.get_text() == ("success rate" if has_success else "return")


def test_a_page_begins_with_what_races_said():
    def expected(verdict):
        values = {"mean": 2.5, "deviation": 1.0, "lower": 0.855, "upper": 4.145}
        return {**values, "verdict": verdict}

    runs = [make_run(seed, np.ones((1, 2, 2))) for seed in (3, 4)]
    for run, verdict in zip(runs, ("pays", "cannot tell"), strict=True):
        run.gains = [
            {
                "num_groups": 2,
                "labels": [0, 0],
                "measured": 1.0,
                "over_one_policy": expected(verdict),
                "over_single_tasks": expected("does not matter"),
                "over_random_groups": expected("pays"),
            }
        ]
    lines = aggregate_page(aggregate(runs), "it").splitlines()
    assert lines[2].startswith("* Seed 3. Groups pay: trained for as many updates")
    assert lines[2].count("2.50 [0.85, 4.14]") == 2
    assert lines[3].startswith("* Seed 4. The data cannot tell whether groups pay")
    assert "Seed" not in aggregate_page(
        aggregate([make_run(0, np.ones((1, 2, 2)))]), "it"
    )


@pytest.fixture
def run_command(tmp_path, monkeypatch):
    """`run_command(*arguments)`: the error of the command, None if there is none."""

    def run_it(*arguments):
        monkeypatch.setattr(sys, "argv", ["pgx_jax aggregate", *map(str, arguments)])
        with flagsaver.flagsaver():
            try:
                command.main()
            except SystemExit as error:
                return error.code

    for seed, name in ((0, "one"), (1, "two"), (1, "again")):
        (tmp_path / name).mkdir()
        run = make_run(seed, [[[1.0], [2.0]]])
        run.to_json(tmp_path / name / "results.json")
    monkeypatch.chdir(tmp_path)
    return run_it


def test_names_with_dots_stay_whole(run_command, tmp_path):
    assert run_command("--output=tables/lr_0.001", "one", "two") is None
    made = sorted(x.name for x in (tmp_path / "tables").iterdir())
    assert made == ["lr_0.001.json", "lr_0.001.md"]
    entries = json.loads((tmp_path / "tables/lr_0.001.json").read_text())
    assert entries["seeds"] == [0, 1]
    assert (tmp_path / "tables/lr_0.001.md").read_text().startswith("# two\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "two", "again"], "several are of seed 1 (two and again)"),
        (["one", "one"], "several are of seed 0 (one and one)"),
        (["one", "torn"], "torn/results.json "),
        (["one", "none"], "none/results.json "),
        ([], "name the workdirs"),
        (["--output=", "one"], "--output must name files, without an ending, got ''"),
        (["--output=.", "one"], "--output must name files"),
        (["--outptu=x", "one"], "Unknown command line flag 'outptu'"),
        (["--output=one/results.json/x", "one"], "one/results.json"),
    ],
)
def test_what_cannot_be_aggregated_is_named_in_one_line(
    run_command, tmp_path, arguments, message
):
    (tmp_path / "torn").mkdir()
    whole = (tmp_path / "one/results.json").read_bytes()
    (tmp_path / "torn/results.json").write_bytes(whole[: len(whole) // 2])
    error = run_command("--output=table", *arguments)
    assert error.startswith("error: ") and message in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.glob("table*"))
