"""Training, episodes, sums and the oracle on eight devices, in a process of its own."""

from __future__ import annotations

import jax
import pytest
from forced_devices import run_on_eight, run_on_two_hosts

from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, PPOConfig

SETUP = """
    import dataclasses, sys
    from pathlib import Path
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
    from clock import make_clock_suite
    from pgx_jax.evaluation.oracle import Oracle
    from pgx_jax.evaluation.transition_sums import collect_sums
    from pgx_jax.networks.actor_critic import make_actor_critic
    from pgx_jax.runs.checkpoints import TrainingCheckpoints
    from pgx_jax.training.episodes import evaluate
    from pgx_jax.training.ppo import PPO, PPOConfig

    key = jax.random.key(0)
    suite = make_clock_suite([0, 1], [3, 9])
    suite = dataclasses.replace(suite, pool_size=4)  # which is on every device
    networks = make_actor_critic(5, 2, discrete=True, hidden_sizes=(8,))
    config = PPOConfig(num_envs=8, unroll_length=6, num_epochs=2, num_minibatches=3)

    def make(number, kind):
        return Mesh(jax.devices()[:number], ("x",), axis_types=(kind,))

    def check(case, many, expected):
        pairs = zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(many))
        for (path, a), b in pairs:
            a, b = np.asarray(a, float), np.asarray(b, float)
            error = np.abs(a - b).max()
            assert error <= 1e-5 * max(1, np.abs(a).max()), (case, path, error)
"""
TRAINING = """
    def train(mesh):
        ppo = PPO(config, networks, 2, mesh=mesh)
        half, first = ppo.run(suite, ppo.init(suite, key), 1)
        middle = jax.tree.map(jnp.copy, half)
        state, second = ppo.run(suite, half, 1)
        policy = state.params["policy"], state.observation_statistics, state.policy_ids
        episodes = evaluate(
            suite, networks, *policy, key, 8, mesh=mesh, deterministic=False
        )
        arrays = (
            state._replace(key=(), suite_state=state.suite_state.observation),
            (first, second),
            ppo.collect_transitions(suite, state, key, 16),
            episodes,
        )
        return ppo, middle, state, jax.device_get(arrays)

    ppo, middle, _, one = train(None)
    for types in (AxisType.Auto, AxisType.Explicit):
        on_mesh, half, state, many = train(make(8, types))
        check(types, many, one)
        lies = state.suite_state.observation.sharding
        assert lies.shard_shape((2, 8, 5)) == (2, 1, 5), lies
        assert jax.tree.leaves(state.params)[0].sharding.is_fully_replicated

    # What eight devices have stored goes on on one, and the other way round.
    checkpoints = TrainingCheckpoints(Path(sys.argv[1]), {})
    for before, other in ((half, ppo), (middle, on_mesh)):
        checkpoints.save(1, before, {})
        restored = checkpoints.restore(other.init(suite, key)).state
        after, _ = other.run(suite, restored, 1)
        check("restored", after.params, one[0].params)

    # A state on Explicit axes stays there.
    on = jax.tree.map(lambda x: P(), middle)
    on = on._replace(suite_state=on.suite_state._replace(observation=P(None, "x")))
    mesh = make(8, AxisType.Explicit)
    on = jax.tree.map(lambda spec: NamedSharding(mesh, spec), on)
    after, _ = ppo.run(suite, jax.device_put(middle, on), 1)
    assert after.suite_state.observation.sharding == on.suite_state.observation
    check("Explicit state", after.params, one[0].params)

    try:
        PPO(dataclasses.replace(config, num_envs=12), networks, 2, mesh=mesh)
    except ValueError as error:
        print(error)
"""
ORACLE_AND_SUMS = """
    trainers = [PPO(config, networks, 1, mesh=mesh) for mesh in (
        None, make(2, AxisType.Explicit)
    )]
    start, scores, sums = trainers[0].init(suite, key), [], []
    for ppo in trainers:
        subsets = np.array([[1, 0], [0, 1], [1, 0]])
        run = Oracle(ppo, 8, block_size=1).run(suite, start, subsets, key)
        scores.append(run.result.scores)
        state = ppo.init(suite, key)
        _, collected = collect_sums(ppo, suite, state, key, 48, key, num_parts=2)
        sums.append(jax.tree.leaves(collected._replace(fingerprint=())))
    check("oracle", scores[1], scores[0])
    check("sums", sums[1], sums[0])
    print("same")
"""
JOIN = """
    import sys, jax
    jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[1]))
"""
HOSTS = """
    import pgx_jax as pge

    def compute(mesh):
        ppo = PPO(config, networks, 1, mesh=mesh)
        state, metrics = ppo.run(suite, ppo.init(suite, key), 1)
        policy = state.params["policy"], state.observation_statistics, state.policy_ids
        episodes = evaluate(suite, networks, *policy, key, 2, mesh=mesh)
        oracle = Oracle(ppo, 2, block_size=1)
        scores = oracle.run(suite, state, np.eye(2, dtype=int), key).result.scores
        batch = pge.Transitions(
            jax.random.normal(key, (2, 16, 3)),
            jax.random.bernoulli(key, shape=(2, 16)).astype(int),
            jax.random.normal(key, (2, 16)),
        )
        estimates = pge.estimate_subsets(
            lambda params, x, a: jax.nn.log_softmax(x @ params)[a],
            jnp.full((3, 2), 0.1), batch, np.eye(2, dtype=int),
            key=key, dim=4, mesh=mesh,
        )
        return jax.device_get((metrics, policy, episodes, scores, estimates.scores))

    mesh = Mesh(jax.devices(), ("x",))
    check("two hosts", compute(mesh), compute(None))
    print(jax.process_count(), mesh.size)
"""
ROLLOUTS = """
    import pgx_jax as pge
    from pgx_jax.evaluation.rollouts import RolloutEvaluator

    subsets, scores = np.array([[1, 0], [0, 1], [1, 1]]), []
    for mesh in (None, make(2, AxisType.Explicit)):
        ppo = PPO(config, networks, 1, mesh=mesh)
        state = ppo.init(suite, key)
        statistics = state.observation_statistics
        estimates = pge.estimate_subsets(
            networks.log_prob,
            jax.tree.map(lambda x: x[0], state.params["policy"]),
            ppo.collect_transitions(suite, state, key, 16),
            subsets,
            key=key,
            dim=4,
            evaluator=RolloutEvaluator(suite, networks, statistics, num_episodes=4),
            mesh=mesh,
        )
        scores.append(estimates.scores)
    check("rollouts", scores[1], scores[0])
    print("same")
"""
NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(8,))


def test_eight_devices_give_the_numbers_of_one(tmp_path):
    """Up to 1e-5 of the largest number of an array, by the order of sums."""
    refusal = "num_envs must be a multiple of the 8 devices of mesh, got 12"
    assert run_on_eight(SETUP + TRAINING, str(tmp_path / "checkpoints")) == refusal


@pytest.mark.reliability
def test_oracle_and_sums_are_those_of_one_device():
    assert run_on_eight(SETUP + ORACLE_AND_SUMS) == "same"


def test_two_hosts_give_the_numbers_of_one():
    assert run_on_two_hosts(JOIN + SETUP + HOSTS) == ["2 2", "2 2"]


@pytest.mark.reliability
def test_rollouts_of_a_policy_trained_on_a_mesh():
    assert run_on_eight(SETUP + ROLLOUTS) == "same"


def test_what_is_no_mesh_is_refused(clock_suite):
    with pytest.raises(ValueError, match="mesh must be a jax.sharding.Mesh or None"):
        PPO(PPOConfig(), NETWORKS, 1, mesh=2)  # pyright: ignore[reportArgumentType]
    ppo = PPO(PPOConfig(num_envs=2), NETWORKS, 1)
    state = ppo.init(clock_suite([0], [1]), jax.random.key(0))
    with pytest.raises(ValueError, match="mesh must be a jax.sharding.Mesh or None"):
        evaluate(
            clock_suite([0], [1]),
            NETWORKS,
            state.params["policy"],
            state.observation_statistics,
            state.policy_ids,
            jax.random.key(0),
            2,
            mesh="x",  # pyright: ignore[reportArgumentType]
        )
