"""The whole pipeline at a small size: resumption, determinism and refusals."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import SMALL, run, without_clock

import pgx_jax as pge
from pgx_jax.envs import (
    SUITES,
    ActionSpace,
    TaskIdSuite,
    from_functions,
    make_suite,
    register_suite,
)
from pgx_jax.pipeline import load_policies, route
from pgx_jax.pipeline.checks import STAGES, stage_key
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.dependencies import first_stage
from pgx_jax.pipeline.forecast import count_steps
from pgx_jax.pipeline.results import RunResults
from pgx_jax.pipeline.run import run_pipeline
from pgx_jax.pipeline.runner import TrainingDiverged
from pgx_jax.rendering import restore_policies
from pgx_jax.reporting.summary import summary_table
from pgx_jax.runs.metrics import read_metrics
from pgx_jax.runs.progress import Progress
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.episodes import evaluate

ROOT = Path(__file__).parents[2]
FEW = SMALL["estimation"] | {"num_subsets": 3, "subset_size": 2}


def test_run_leaves_results_metrics_and_report(finished):
    workdir, results, report = finished
    assert report == workdir / "report.html"
    assert "cartpole_planted" in report.read_text()
    stored = RunResults.from_json(workdir / "results.json")
    assert without_clock(stored) == without_clock(results)
    lines = read_metrics(workdir)
    steps = [line["step"] for line in lines if line["stage"] == "meta_training"]
    assert steps == [64, 128, 192, 256]
    names = [method["name"] for method in results.methods]
    assert names[:2] == ["estimated groups", "one policy"]
    assert np.shape(results.methods[2]["source"]) == (2, 10, 4)
    assert results.nmi["planted"] == 1.0


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_restored_policies_get_the_returns_that_are_reported(finished, index):
    """Methods with and without the estimate train for different numbers of updates."""
    workdir, results, _ = finished
    method = results.methods[index]
    suite, policies = restore_policies(workdir, method=method["name"])
    key = jax.random.fold_in(jax.random.key(0), STAGES.index("evaluation"))
    result = evaluate(
        suite, *policies, key, num_episodes=4, tasks=np.arange(suite.num_tasks)
    )
    np.testing.assert_allclose(result.episode_return, method["source"][0])


def test_same_config_and_seed_give_the_same_numbers(finished, tmp_path):
    _, results, _ = finished
    again, _ = run(tmp_path)
    assert without_clock(again) == without_clock(results)
    other, _ = run(tmp_path / "other", seed=1)
    assert other.affinity != results.affinity


def test_finished_stages_are_not_repeated(finished, monkeypatch):
    workdir, results, _ = finished
    monkeypatch.setattr("pgx_jax.training.ppo.PPO.run", None)
    monkeypatch.setattr("pgx_jax.estimate_subsets", None)
    again, _ = run(workdir)
    assert again.resumed
    assert without_clock(again) == without_clock(results)


def test_a_killed_run_ends_with_the_same_numbers(finished, tmp_path, monkeypatch):
    """SIGKILL in the middle of meta-training, then the same command of other code."""
    _, results, _ = finished
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from pgx_jax import runtime\n"
        "runtime.configure(cache_directory=sys.argv[3])\n"
        "from pgx_jax.pipeline.config import PipelineConfig\n"
        "from pgx_jax.pipeline.run import run_pipeline\n"
        "config = PipelineConfig.from_dict(json.loads(sys.argv[1]))\n"
        "run_pipeline(config, sys.argv[2], tensorboard=False)\n"
    )
    workdir = tmp_path / "run"
    cache = jax.config.jax_compilation_cache_dir
    command = [sys.executable, str(script), json.dumps(SMALL), str(workdir), cache]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PGX_JAX_COMMIT": "killed"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    checkpoint = workdir / "checkpoints" / "meta_training" / "2"
    deadline = 1200
    while not checkpoint.exists() and process.poll() is None and deadline:
        time.sleep(0.1)
        deadline -= 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    assert not (workdir / "results.json").exists()

    monkeypatch.setenv("PGX_JAX_COMMIT", "resuming")
    resumed, _ = run(workdir)
    assert resumed.resumed
    assert resumed.commit == "killed and resuming"
    assert without_clock(resumed) == without_clock(results)
    lines = [(x["stage"], x["step"]) for x in read_metrics(workdir)]
    # Methods without the estimate take one update more, for its transitions.
    assert len(lines) == len(set(lines)) == 4 + 3


@pytest.mark.parametrize(
    "chunks",
    [1, 2, 3],
    ids=["half-way", "before the result", "when some groups are over"],
)
def test_interrupt_between_chunks_is_resumed(finished, tmp_path, chunks):
    class Interrupting(Progress):
        calls = 0

        def update(self, steps, returns=None):
            self.calls += 1
            if self.calls == chunks:
                raise KeyboardInterrupt

    _, results, _ = finished
    config = PipelineConfig.from_dict(SMALL)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config, tmp_path, tensorboard=False, progress=Interrupting())
    resumed, _ = run(tmp_path)
    assert without_clock(resumed) == without_clock(results)


UPDATE_0 = (
    r"^meta_training met a number that is not finite: metric '\w+' of (row|policy) 0 "
    r"\((A1|A1, .*, B5)\) at update 0, in steps 0 to 64 of each task. There is no"
)


def test_divergence_at_the_first_update_claims_no_checkpoint(tmp_path):
    ppo = SMALL["ppo"] | {"learning_rate": 1e30, "max_gradient_norm": 1e30}
    with pytest.raises(TrainingDiverged, match=UPDATE_0):
        run(tmp_path, ppo=ppo, checkpoint_every=1)


def test_divergence_names_the_checkpoint_that_is_kept(tmp_path, monkeypatch):
    places = iter([None, "metric 'return' of row 0 at update 2"])
    monkeypatch.setattr(
        "pgx_jax.pipeline.runner.first_nonfinite", lambda *_: next(places)
    )
    with pytest.raises(TrainingDiverged, match="checkpoint after update 2 is kept in"):
        run(tmp_path)
    assert (tmp_path / "checkpoints" / "meta_training" / "2").exists()


@pytest.fixture
def broken_at():
    """`broken_at(period)` registers a suite whose second task gives NaN so often."""

    def register(period):
        def step(parameters, time, action, key):
            failing = (parameters > 0) & (time % period == period - 1)
            return time + 1, jnp.where(failing, jnp.nan, 1.0)[None], 1.0, False

        register_suite(
            "broken",
            source=lambda: from_functions(
                lambda parameters, key: (jnp.zeros((), jnp.int32), jnp.zeros(1)),
                step,
                jnp.array([0.0, 1.0, 0.0]),
                action_space=ActionSpace(2, discrete=True),
                episode_length=100,
                task_names=["sound", "broken", "also sound"],
            ),
        )

    yield register
    SUITES.pop("broken", None)


def test_a_task_that_keeps_diverging_is_named(broken_at, tmp_path):
    broken_at(5)
    with pytest.raises(TrainingDiverged, match="19% of the steps of task 'broken'"):
        run(tmp_path, suite={"name": "broken"}, estimation=FEW)


def test_a_step_that_diverges_now_and_then_is_told(broken_at, tmp_path):
    broken_at(30)
    told = io.StringIO()
    config = PipelineConfig.from_dict(
        SMALL | {"suite": {"name": "broken"}, "estimation": FEW}
    )
    progress = Progress(stream=told)
    run_pipeline(config, tmp_path, tensorboard=False, progress=progress)
    # Of 4 environments, each of 32 steps between two checkpoints.
    assert "meta_training: 4 of 384 steps diverged" in told.getvalue()
    assert "most of them of 'broken'" in told.getvalue()


def test_groups_can_start_from_scratch_and_task_ids_can_be_seen(tmp_path):
    results, _ = run(
        tmp_path,
        suite={"task_id": True},
        group_training={"num_updates": 2, "start": "scratch"},
        grouping={"num_groups": 3, "num_random_draws": 0, "single_tasks": True},
        evaluation={"num_episodes": 4, "scalarization": "linear"},
    )
    assert max(results.groups["estimated"]) == 2
    assert results.methods[-1]["num_policies"] == 10
    # CartPole's reward is 1 a step: the mean return, as a share of the longest.
    for method in results.methods:
        mean = np.mean(method["source"]) / 500
        np.testing.assert_allclose(method["scalarized"], [mean], rtol=1e-5)
        assert method["success"] is None
    assert "linear" in summary_table(results).splitlines()[0]


def succeeding_suite():
    """Three tasks; the second and the third succeed, whatever one does."""

    def reset(goal, key):
        return goal, jnp.zeros((1,))

    def step(goal, state, action, key):
        return state, jnp.zeros((1,)), action.astype(float), False, state > 1.0

    return from_functions(
        reset,
        step,
        jnp.array([0.0, 2.0, 3.0]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=3,
    )


def test_suites_that_tell_success_are_known():
    suite = succeeding_suite()
    assert suite.has_success and TaskIdSuite.create(suite).has_success
    assert not make_suite("cartpole").has_success


def test_success_is_logged_by_task_and_reported_for_both_kinds_of_actions(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(SUITES, "succeeding", {"source": succeeding_suite})
    results, report = run(
        tmp_path,
        suite={"name": "succeeding"},
        estimation=FEW,
        evaluation={"num_episodes": 64, "sampled_too": True},
    )
    for method in results.methods:
        assert method["success"][0] == method["sampled_success"][0] == [0.0, 1.0, 1.0]
        # One policy's most likely action is always the same one, a sampled one not.
        assert np.isin(np.mean(method["source"], axis=2), [0.0, 3.0]).all()
        assert not np.isin(method["sampled_return"], [0.0, 3.0]).any()
    lines = read_metrics(tmp_path)
    logged = [line["success"] for line in lines if "success" in line]
    # Of the estimated groups, whose training ends an update before that of others.
    assert logged == [[0.0, 1.0, 1.0]] * (len(lines) - 1)
    curve = results.learning_curves["group training"]
    assert curve["success"] == [[0.0, 1.0, 1.0]] * 2
    assert "success, sampled" in summary_table(results).splitlines()[0]
    assert "Success rate of each task" in report.read_text()


def test_other_numbers_of_groups_are_trained_too(tmp_path):
    results, _ = run(
        tmp_path,
        grouping={
            "num_groups": 3,
            "other_num_groups": [2, 4],
            "num_random_draws": 0,
        },
    )
    policies = {m["name"]: m["num_policies"] for m in results.methods}
    assert policies["estimated groups"] == 3
    assert policies["estimated groups, k = 2"] == 2
    assert policies["estimated groups, k = 4"] == 4
    for k in (2, 4):
        expected = pge.cluster_tasks(np.asarray(results.affinity), k).labels
        assert results.groups[f"estimated, k = {k}"] == expected.tolist()


def test_adaptation_to_target_tasks(tmp_path):
    results, _ = run(
        tmp_path,
        suite={"name": "cartpole"},
        grouping={"num_groups": 2, "num_random_draws": 2},
        adaptation={"num_updates": 2, "num_selection_episodes": 2},
    )
    shapes = [np.shape(method["target"]) for method in results.methods]
    assert shapes == [(1, 50, 4), (1, 50, 4), (2, 50, 4), (1, 50, 4)]
    # What a user's own code chooses is what the stage chose.
    select_key = jax.random.split(stage_key(0, "adaptation"), 3)[0]
    for method in ("estimated groups", "random groups"):
        policies = load_policies(tmp_path, method)
        found = route(policies, make_suite("cartpole", "target"), select_key, 2)
        stored = Workdir.open(tmp_path).result("adaptation_selection")["best"]
        grouping = 0 if method == "estimated groups" else 2
        first = 0 if grouping == 0 else 2 + 1
        np.testing.assert_array_equal(first + found.groups, stored[grouping])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"suite": {"name": "cartpol"}},
            "suite.name must be one of .*cartpole.*'cartpol'",
        ),
        ({"suite": {"name": "cartpole_v1"}}, "must have two tasks"),
        ({"grouping": {"num_groups": 11}}, "grouping.num_groups.*10 tasks"),
        ({"grouping": {"other_num_groups": [2, 11]}}, "other_num_groups.*10 tasks"),
        ({"grouping": {"other_num_groups": [2, 2]}}, "other_num_groups.*different"),
        (
            {"evaluation": {"deterministic": False, "sampled_too": True}},
            "evaluation.sampled_too",
        ),
        ({"estimation": {"num_transitions": 63}}, "estimation.num_transitions"),
        ({"estimation": {"subset_size": 11}}, "subset_size"),
        ({"estimation": {"dim": 59}}, "estimation.dim must be at most the 58 param"),
        ({"estimation": {"num_subsets": 3}}, "num_subsets must be at least 15"),
        ({"estimation": {"evaluator": "oracle"}}, "estimation.evaluator"),
        ({"estimation": {"num_resamples": -1}}, "estimation.num_resamples"),
        ({"estimation": {"max_relative_distance": -0.1}}, "max_relative_distance"),
        ({"adaptation": {"num_updates": 5}}, "adaptation.num_updates"),
        ({"network": {"activation": "sine"}}, "activation"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"num_devices": 1000}, "num_devices must be at most the"),
    ],
)
def test_impossible_settings_are_refused_before_the_workdir_is_made(
    changes, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_rollouts_and_transfer_gains(tmp_path):
    results, _ = run(
        tmp_path,
        estimation={
            **SMALL["estimation"],
            "evaluator": "rollout",
            "num_rollouts": 2,
            "score": "transfer_gain",
            "num_resamples": 0,
        },
        grouping={"num_groups": 2, "num_random_draws": 0},
    )
    assert results.uncertainty is None
    assert results.affinity_method == "transfer_gain"
    assert np.isfinite(results.affinity).all()


def test_an_unknown_setting_on_the_command_line_is_one_line():
    config = ROOT / "pgx_jax/configs/cartpole_planted.py"
    result = subprocess.run(
        [
            sys.executable,
            str(ROOT / "experiments/run.py"),
            f"--config={config}",
            "--workdir=unused",
            "--config.sed=1",
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(
        "error: config field sed does not exist (did you mean seed?); the config has "
    )


def test_a_workdir_of_another_config_is_refused(finished):
    workdir, *_ = finished
    refused = "seed: 0 in the workdir, 5 now; stage meta_training has begun"
    with pytest.raises(ValueError, match=refused):
        run(workdir, seed=5, checkpoint_every=5)
    assert Workdir.open(workdir).config["checkpoint_every"] != 5


def test_a_run_takes_at_most_the_steps_that_were_counted_before(finished):
    directory = Workdir.open(finished[0])
    config = PipelineConfig.from_dict(directory.config)
    for stage in count_steps(config, make_suite(config.suite.name)):
        taken = directory.info(stage.name)["env_steps"]
        exactly = stage.name in ("meta_training", "estimation")
        assert taken == stage.env_steps if exactly else 0 < taken <= stage.env_steps


def test_settings_that_no_stage_depends_on_change_on_resuming(finished):
    workdir, *_ = finished
    run(workdir, checkpoint_every=3)
    assert Workdir.open(workdir).config["checkpoint_every"] == 3


@pytest.mark.parametrize(
    ("field", "stages"),
    [  # of a race, of least squares without one, and of the logistic regression
        ("ppo.num_envs", ("meta_training",) * 3),
        ("estimation.dim", ("estimation",) * 3),
        ("grouping.num_groups", ("race_training", "estimation", "grouping")),
        ("grouping.num_candidates", ("race_training", None, None)),
        ("grouping.num_random_draws", ("grouping",) * 3),
        ("group_training.start", ("race_training", "group_training", "group_training")),
        ("group_training.match_race", ("group_training",) * 3),
        ("evaluation.deterministic", ("race_evaluation", "evaluation", "evaluation")),
        ("evaluation.num_episodes", ("evaluation",) * 3),
        ("evaluation.scalarization", (None,) * 3),
    ],
)
def test_stages_that_settings_come_into_first(field, stages):
    changes = [
        {},
        {"grouping": {"method": "partition"}},
        {
            "grouping": {"method": "clustering"},
            "estimation": {"regression": "logistic"},
        },
    ]
    configs = [PipelineConfig.from_dict(x) for x in changes]
    assert tuple(first_stage(field, config) for config in configs) == stages
