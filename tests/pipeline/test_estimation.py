"""Transitions that are summed up in rounds, and the partition that scores lead to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge
from pgx_jax.analysis.truth_tables import all_subsets
from pgx_jax.envs import ActionSpace, from_functions
from pgx_jax.evaluation.transition_sums import collect_sums
from pgx_jax.pipeline.checks import make_networks, sample_subsets
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.estimation import estimate, feature_similarity
from pgx_jax.pipeline.grouping import choose_groups, predict_values
from pgx_jax.pipeline.stages import Problem
from pgx_jax.training.ppo import PPO

SETTINGS = {
    "network": {"hidden_sizes": [4]},
    "ppo": {"num_envs": 4, "unroll_length": 8, "num_epochs": 1, "num_minibatches": 1},
    "estimation": {
        "regression": "least_squares",
        "num_transitions": 60,
        "max_transitions": 300,
        "dim": 8,
        "num_resamples": 3,
    },
    "grouping": {"method": "partition", "num_random_draws": 0},
}


def make_problem(**changes):
    """Four tasks that pay for arm 0 or 1, and a policy that has learned nothing."""

    def step(arm, state, action, key):
        observation = jax.random.normal(key, (1,))
        return state, observation, (action == arm).astype(jnp.float32), False

    suite = from_functions(
        lambda arm, key: (arm, jnp.zeros(1)),
        step,
        jnp.array([0, 0, 1, 1]),
        action_space=ActionSpace(2, discrete=True),
        episode_length=5,
    )
    values = SETTINGS | {
        name: SETTINGS[name] | change for name, change in changes.items()
    }
    config = PipelineConfig.from_dict(values)
    problem = Problem(suite, make_networks(config, suite), config.ppo)
    meta = PPO(config.ppo, problem.actor_critic, 1).init(suite, jax.random.key(0))
    return config, problem, meta


def run(config, problem, meta):
    subsets = sample_subsets(config, 4)
    return estimate(
        problem, config.estimation, config.grouping, meta, subsets, jax.random.key(1)
    )


@pytest.fixture(scope="module")
def to_the_limit():
    """Rounds that no agreement ends: a level of 1 + nothing is never reached."""
    config, problem, meta = make_problem()
    settings = dataclasses.replace(config.estimation, stable_agreement=1.0)
    config = dataclasses.replace(config, estimation=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgx_jax.pipeline.estimation._agreement", lambda *arguments: 0.25)
        return config, *run(config, problem, meta)


def test_rounds_double_to_the_limit_in_whole_unrolls(to_the_limit):
    """Two unrolls of 4 x 8 steps are 64; four chunks of them fit in 300."""
    _, result, steps = to_the_limit
    assert result["round_transitions"].tolist() == [64, 128, 256]
    assert result["round_agreement"].tolist() == [0.25] * 3
    assert result["num_transitions"] == 256 and steps == 256 * 4


def test_stable_groups_end_it():
    config, problem, meta = make_problem(estimation={"stable_agreement": 1e-9})
    result, steps = run(config, problem, meta)
    assert result["round_transitions"].tolist() == [64]
    assert steps == 64 * 4
    again, _ = run(config, problem, meta)
    for name, value in result.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


def test_tasks_of_one_arm_are_one_group(to_the_limit):
    config, result, _ = to_the_limit
    np.testing.assert_array_equal(result["subsets"], all_subsets(4))
    settings = dataclasses.replace(config.grouping, num_groups=2, other_num_groups=(3,))
    labels = choose_groups(settings, "standardized", result, jax.random.key(0))
    np.testing.assert_array_equal(labels["estimated"], [0, 0, 1, 1])
    np.testing.assert_array_equal(labels["similarity"], [0, 0, 1, 1])
    assert labels["estimated_3"].max() == 2
    assert labels["nmi"].shape == (3,)
    # Against every partition into two groups, by hand.
    rows = zip(all_subsets(4), result["scores"], strict=True)
    scores = {tuple(subset): score for subset, score in rows}
    values = {}
    for code in range(1, 8):
        member = (code >> np.arange(4)) & 1 == 1
        values[code] = scores[tuple(member)].sum() + scores[tuple(~member)].sum()
    assert max(values, key=values.get) == 0b0011
    found = predict_values(result, np.array([[0, 0, 1, 1], [0, 1, 0, 1]]))
    expected = [values[0b0011] / 4, values[0b0101] / 4]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_values_of_partitions_need_all_subsets(to_the_limit):
    _, result, _ = to_the_limit
    # As a sample of subsets has it, one of them twice.
    fewer = {k: result[k][[0, 1, 2, 2, 4]] for k in ("subsets", "scores")}
    assert predict_values(fewer, np.array([[0, 0, 1, 1]])) is None


def test_least_squares_can_be_clustered_too():
    config, problem, meta = make_problem(
        grouping={"method": "clustering", "num_groups": 2},
        estimation={"num_subsets": 6, "subset_size": 2, "max_transitions": 64},
    )
    result, _ = run(config, problem, meta)
    assert result["subsets"].sum(axis=1).tolist() == [2] * 6
    labels = choose_groups(config.grouping, "standardized", result, jax.random.key(0))
    found = pge.cluster_tasks(result["affinity"], 2).labels
    np.testing.assert_array_equal(labels["estimated"], found)


def test_similarity_is_the_cosine_of_projected_gradients():
    """From the sums in float64, centered in one pass."""
    _, problem, meta = make_problem()
    ppo = PPO(problem.ppo, problem.actor_critic, 1)
    _, sums = collect_sums(
        ppo,
        problem.suite,
        meta,
        jax.random.key(0),
        64,
        jax.random.key(1),
        pge.GaussianProjection(8),
        num_parts=4,
    )
    total = {
        k: np.asarray(x, np.float64).sum(axis=0)
        for k, x in sums._asdict().items()
        if k != "fingerprint"
    }
    count = total["count"][:, None]
    mean = total["feature"] / count * (total["advantage"] / total["count"])[:, None]
    gradient = total["product"] / count - mean
    unit = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(feature_similarity(sums), unit @ unit.T, atol=1e-4)


def test_other_environments_may_collect():
    config, problem, meta = make_problem(
        estimation={"num_envs": 8, "max_transitions": 64}
    )
    result, steps = run(config, problem, meta)
    assert result["num_transitions"] == 64 and steps == 64 * 4
    assert np.isfinite(result["scores"]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regression": "ridge"}, "regression must be one of logistic, least_squares"),
        (
            {"max_transitions": 59},
            "max_transitions must be at least num_transitions = 60",
        ),
        ({"stable_agreement": 0.0}, r"stable_agreement must be in \(0, 1\]"),
        ({"evaluator": "rollout"}, "evaluator must be 'surrogate' where regression"),
        ({"held_out_fraction": 0.5}, "held_out_fraction must be 0.0 where regression"),
        ({"dim": None}, "dim must be a number where regression is 'least_squares'"),
        ({"ridge": 0.0}, "ridge must be positive"),
        ({"num_envs": 6}, "estimation.num_envs must be a multiple of 4.*got 6"),
    ],
)
def test_settings_that_say_nothing_of_sums_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_problem(estimation=changes)
