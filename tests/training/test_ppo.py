"""PPO on environments whose answer is known, and on CartPole-v1."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import TaskIdSuite, make_suite
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.runtime import allow_promotion
from pgx_jax.training.diagnostics import first_nonfinite, on_host
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.learning import Batch, make_optimizer, total_loss
from pgx_jax.training.ppo import PPO, PPOConfig
from pgx_jax.training.rollouts import act, normalize_observation
from pgx_jax.training.running_statistics import RunningStatistics

NEVER = 99
NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(16,))
CONFIG = PPOConfig(
    num_envs=16,
    unroll_length=4,
    num_epochs=8,
    num_minibatches=4,
    learning_rate=1e-2,
    discount=0.9,
)
# Three tasks, one or two policies and one update a call throughout, so that the tests
# share two compiled programs.
UPDATES = 100
TRAINER = PPO(CONFIG, NETWORKS, UPDATES)


def trained(suite, policy_ids=None, num_updates=UPDATES):
    """The state after `num_updates`, and the metrics of the last one."""
    state = TRAINER.init(suite, jax.random.key(0), policy_ids)
    for _ in range(num_updates):
        state, metrics = TRAINER.run(suite, state, 1)
    return state, jax.tree.map(lambda x: np.asarray(x[0]), metrics)


def values_at_all_times(state):
    """What the critic of every row says at times 0..4, in units of reward; [r, 5]."""
    ids, statistics = state.policy_ids, state.value_statistics
    times = jnp.broadcast_to(jnp.eye(5), (len(ids), 5, 5))
    seen = normalize_observation(times, state.observation_statistics, ids)
    params = jax.tree.map(lambda x: x[ids], state.params["value"])
    values = jax.vmap(NETWORKS.value)(params, seen)
    return values * statistics.std[:, None] + statistics.mean[:, None]


@pytest.mark.parametrize("num_updates", [10, (10, 20)])
def test_policies_may_learn_at_rates_of_their_own(num_updates):
    rates = (1e-2, 3e-4)
    params = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    gradients = {"w": jnp.array([[0.1, -0.2], [0.3, 0.1]])}
    optimizer = make_optimizer(CONFIG, num_updates, rates)
    with allow_promotion():
        together, _ = optimizer.update(gradients, optimizer.init(params), params)
    for policy, rate in enumerate(rates):
        number = np.broadcast_to(num_updates, 2)[policy].item()
        config = dataclasses.replace(CONFIG, learning_rate=rate)
        alone = make_optimizer(config, number)
        of_policy = [
            jax.tree.map(lambda x, policy=policy: x[policy : policy + 1], tree)
            for tree in (gradients, params)
        ]
        with allow_promotion():
            expected, _ = alone.update(
                of_policy[0], alone.init(of_policy[1]), of_policy[1]
            )
        found, wanted = jax.tree.leaves((together, expected))
        np.testing.assert_allclose(found[policy], wanted[0], rtol=1e-5)


@pytest.mark.parametrize("rates", [[], [[1.0]], [0.0, 1.0], [np.nan, 1.0], "fast"])
def test_learning_rates_that_are_none_are_refused(rates):
    with pytest.raises(ValueError, match="^learning_rates must"):
        PPO(CONFIG, NETWORKS, UPDATES, learning_rates=rates)


def test_learning_rates_of_other_policies_are_refused(clock_suite):
    ppo = PPO(CONFIG, NETWORKS, UPDATES, learning_rates=[1e-3, 1e-2])
    with pytest.raises(ValueError, match="^learning_rates must be one for each of 3"):
        ppo.init(clock_suite([-1] * 3, [NEVER] * 3), 0, [0, 1, 2])


def test_values_go_through_truncation_and_stop_at_termination(clock_suite):
    """Rewards of 1: 1 / (1 - discount) for ever, or a finite geometric sum."""
    suite = clock_suite([-1, -1, -1], [NEVER, 4, 4])
    state, _ = trained(suite, [0, 1, 1])
    values = values_at_all_times(state)
    np.testing.assert_allclose(values[0], 1 / (1 - 0.9), rtol=0.02)
    finite = (1 - 0.9 ** np.array([4, 3, 2, 1])) / (1 - 0.9)
    np.testing.assert_allclose(values[1:, :4], [finite, finite], rtol=0.02)


def test_staggered_resets_spread_the_time_limits(clock_suite):
    suite = clock_suite([0, 1, 0], [NEVER] * 3)
    state = TRAINER.init(suite, jax.random.key(0))
    assert np.all(state.suite_state.episode_length == 0)
    config = dataclasses.replace(CONFIG, stagger_resets=True)
    state = PPO(config, NETWORKS, UPDATES).init(suite, jax.random.key(0))
    length = np.asarray(state.suite_state.episode_length)
    assert set(np.unique(length)) == set(range(suite.episode_length))


def test_opposite_tasks_need_two_policies(clock_suite):
    """Bandits of one pull: each policy finds its arm; one for both must fail one."""
    suite = clock_suite([0, 1, 0], [1, 1, 1])
    _, metrics = trained(suite, [0, 1, 0], num_updates=30)
    assert np.all(metrics["return"] > 0.9)
    # Every step is an episode here.
    np.testing.assert_array_equal(metrics["episodes"], 64.0)
    np.testing.assert_array_equal(metrics["length"], 1.0)

    # Two tasks of three pay for arm 0, so that is what one policy comes to pull.
    _, metrics = trained(suite, num_updates=30)
    assert np.all(metrics["return"][[0, 2]] > 0.9)
    assert metrics["return"][1] < 0.1


@pytest.mark.parametrize("policy_ids", [[0, 0, 1], [1, 1, 0], [0, 1, 0]])
def test_a_policy_learns_from_its_own_rows_alone(clock_suite, policy_ids):
    """Changing the task of the last row changes its policy and not the other one."""
    states = [
        trained(clock_suite(arms, [3] * 3), policy_ids, num_updates=3)[0]
        for arms in ([0, 1, 0], [0, 1, 1])
    ]
    kernels = [np.asarray(s.params["policy"]["Dense_0"]["kernel"]) for s in states]
    changed, other = policy_ids[2], 1 - policy_ids[2]
    np.testing.assert_array_equal(kernels[0][other], kernels[1][other])
    assert np.abs(kernels[0][changed] - kernels[1][changed]).max() > 1e-3


def test_a_run_in_two_parts_is_the_run_in_one(clock_suite):
    suite = clock_suite([0, 1, 0], [3, NEVER, 3])
    parts, metrics = trained(suite, num_updates=2)
    whole, all_metrics = TRAINER.run(suite, TRAINER.init(suite, jax.random.key(0)), 2)
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, two = jax.random.key_data(one), jax.random.key_data(two)
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(all_metrics["entropy"][1], metrics["entropy"], rtol=1e-4)


def test_groups_start_from_the_meta_policy_and_leave_it_whole(clock_suite):
    suite = clock_suite([0, 1, 0], [3] * 3)
    meta, _ = trained(suite, num_updates=2)
    state = TRAINER.init_from(
        suite,
        jax.random.key(1),
        [1, 0, 1],
        meta.params,
        meta.observation_statistics,
        meta.value_statistics,
    )
    for path, leaf in jax.tree.leaves_with_path(meta.params):
        grown = dict(jax.tree.leaves_with_path(state.params))[path]
        np.testing.assert_array_equal(grown, np.repeat(leaf, 2, axis=0))
    np.testing.assert_array_equal(
        state.observation_statistics.mean,
        np.repeat(meta.observation_statistics.mean, 2, axis=0),
    )
    # Training gives its state's buffers away; those of the meta-policy must stay.
    TRAINER.run(suite, state, 1)
    assert not any(x.is_deleted() for x in jax.tree.leaves(meta))


def test_starts_that_cannot_work_are_refused(clock_suite):
    suite, key, ppo = clock_suite([0, 1, 0], [3] * 3), jax.random.key(0), TRAINER
    for policy_ids in ([0, 0], [0.0, 0.0, 0.0], [[0, 0, 0]]):
        with pytest.raises(ValueError, match="policy_ids must be 3 integers"):
            ppo.init(suite, key, policy_ids)
    with pytest.raises(ValueError, match=r"policy 0..2 a row, \[1\] have none"):
        ppo.init(suite, key, [0, 2, 2])
    with pytest.raises(ValueError, match="policy_ids must not be negative"):
        ppo.init(suite, key, [0, -1, 1])

    good = ppo.init(suite, key, [0, 1, 0])
    parts = [good.params, good.observation_statistics, good.value_statistics]
    names = ["params", "observation_statistics", "value_statistics"]
    for i, name in enumerate(names):
        wrong = list(parts)
        wrong[i] = jax.tree.map(lambda x: x[:1].repeat(4, axis=0), parts[i])
        with pytest.raises(ValueError, match=f"every leaf of {name} .* got 4"):
            ppo.init_from(suite, key, [0, 1, 0], *wrong)

    cartpole = make_suite("cartpole_v1")
    with pytest.raises(ValueError, match="observations of size 5, suite.*gives 4"):
        ppo.init(cartpole, key)
    for networks in (make_actor_critic(5, 3, True), make_actor_critic(5, 2, False)):
        with pytest.raises(ValueError, match="takes discrete ones of size 2"):
            PPO(CONFIG, networks, 2).init(suite, key)
    with pytest.raises(ValueError, match="num_updates must be a positive integer"):
        PPO(CONFIG, NETWORKS, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_envs", 0),
        ("num_epochs", 2.0),
        ("num_minibatches", 3),
        ("learning_rate", float("inf")),
        ("clip_epsilon", 0.0),
        ("entropy_cost", -0.1),
        ("discount", 1.1),
        ("gae_lambda", float("nan")),
        ("value_decay", 1.0),
    ],
)
def test_settings_that_cannot_work_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(CONFIG, **{field: value})


def test_transitions_carry_the_advantage_in_closed_form(clock_suite):
    """A critic that says V everywhere errs by 1 + discount V - V at every step."""
    suite = clock_suite([-1, -1, -1], [NEVER, 3, 3])
    state = TRAINER.init(suite, jax.random.key(0))
    value, shift = 4.0, 0.25
    silent = jax.tree.map(jnp.zeros_like, state.params["value"])
    state = state._replace(
        params=state.params | {"value": silent},
        value_statistics=state.value_statistics._replace(mean=jnp.full((3,), value)),
        observation_statistics=state.observation_statistics._replace(
            mean=jnp.full((1, 5), shift), variance=jnp.full((1, 5), 4.0)
        ),
    )
    batch = TRAINER.collect_transitions(suite, state, jax.random.key(1), 16 * 7)
    assert batch.action.shape == batch.advantage.shape == (3, 112)
    assert batch.mask is None

    # Seven steps of episodes of five, cut off in the second one.
    ratio = CONFIG.discount * CONFIG.gae_lambda
    error = 1 + CONFIG.discount * value - value
    steps_left = np.array([5, 4, 3, 2, 1, 2, 1])
    truncated = error * (1 - ratio**steps_left) / (1 - ratio)
    # Episodes of three: no value follows their last step.
    last = 1 - value
    episode = [error + ratio * (error + ratio * last), error + ratio * last, last]
    expected = np.stack([truncated, [*episode, *episode, error]])
    # The steps of one environment stand side by side.
    advantage = batch.advantage.reshape(3, 16, 7)[:2]
    expected = np.broadcast_to(expected[:, None], advantage.shape)
    np.testing.assert_allclose(advantage, expected, rtol=1e-5)
    times = np.eye(5)[[0, 1, 2, 3, 4, 0, 1]]
    np.testing.assert_allclose(
        batch.observation.reshape(3, 16, 7, 5)[0, 0], (times - shift) / 2, rtol=1e-5
    )
    for num_steps in (0, 16 * 7 + 1):
        with pytest.raises(ValueError, match="num_steps must be"):
            TRAINER.collect_transitions(suite, state, jax.random.key(1), num_steps)


def test_value_statistics_keep_the_share_of_the_past_that_is_set(clock_suite):
    """A critic that says V, rewards of 1 for ever: every target is in closed form."""
    suite = clock_suite([-1, -1, -1], [NEVER] * 3)
    decay, value = 0.7, 4.0
    config = dataclasses.replace(CONFIG, unroll_length=5, value_decay=decay)
    ppo = PPO(config, NETWORKS, UPDATES)
    state = ppo.init(suite, jax.random.key(0))
    statistics = state.value_statistics._replace(
        mean=jnp.full((3,), value), count=jnp.full((3,), 1e6)
    )
    silent = jax.tree.map(jnp.zeros_like, state.params["value"])
    state = state._replace(
        params=state.params | {"value": silent}, value_statistics=statistics
    )
    state, _ = ppo.run(suite, state, 1)
    ratio = config.discount * config.gae_lambda
    error = 1 + config.discount * value - value
    advantages = error * (1 - ratio ** np.arange(1, 6)) / (1 - ratio)
    mean = value + (1 - decay) * advantages.mean()
    np.testing.assert_allclose(state.value_statistics.mean, mean, rtol=1e-5)


def test_gradients_are_clipped_for_each_policy_by_its_own_norm(clock_suite):
    """Adam's first step is rate * g / (|g| + epsilon), from which g can be had."""
    suite = clock_suite([0, 1, 0], [3, NEVER, 3])
    norm, rate, epsilon = 1e-5, CONFIG.learning_rate, 1e-5
    config = dataclasses.replace(
        CONFIG, max_gradient_norm=norm, num_epochs=1, num_minibatches=1
    )
    ppo = PPO(config, NETWORKS, UPDATES)
    start = ppo.init(suite, jax.random.key(0), [0, 1, 1])
    before = jax.tree.map(np.array, start.params)
    state, metrics = ppo.run(suite, start, 1)
    assert np.all(metrics["gradient_norm"] > 100 * norm)
    total = np.zeros(2)
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True
    ):
        step = np.abs(np.asarray(new, np.float64) - old).reshape(2, -1)
        total += np.sum((epsilon * step / (rate - step)) ** 2, axis=1)
    np.testing.assert_allclose(np.sqrt(total), norm, rtol=0.01)


def test_the_loss_is_that_of_its_definition(clock_suite):
    """Uniform policies, a silent critic and ratios of one, in closed form."""
    config = dataclasses.replace(CONFIG, value_cost=0.7, entropy_cost=0.3)
    params = jax.vmap(NETWORKS.init)(jax.random.split(jax.random.key(0), 2))
    params = jax.tree.map(jnp.zeros_like, params)
    rng = np.random.default_rng(0)
    advantage, target = rng.normal(size=(2, 3, 20)).astype(np.float32)
    batch = Batch(
        observation=rng.normal(size=(3, 20, 5)).astype(np.float32),
        action=rng.integers(0, 2, (3, 20)),
        log_prob=np.full((3, 20), -np.log(2.0), np.float32),
        advantage=advantage,
        value_target=target,
    )
    loss, metrics = total_loss(config, NETWORKS, params, np.array([0, 1, 1]), batch)
    value_loss = 0.5 * np.mean(target**2, axis=1)
    rows = -advantage.mean(axis=1) + 0.7 * value_loss - 0.3 * np.log(2.0)
    np.testing.assert_allclose(loss, rows[0] + (rows[1] + rows[2]) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], np.log(2.0), rtol=1e-5)


def test_rows_act_by_keys_of_their_own_unless_they_share_an_id(clock_suite):
    """Fair coins: two rows agree in half of their 2,000 throws, up to chance."""
    policy = jax.tree.map(
        lambda x: jnp.zeros((1, *x.shape)), NETWORKS.init(jax.random.key(0))["policy"]
    )

    def throw(row_ids):
        action, _ = act(
            NETWORKS,
            policy,
            RunningStatistics.create(1, (5,)),
            jnp.zeros((3,), jnp.int32),
            jnp.zeros((3, 2000, 5)),
            jax.random.key(1),
            row_ids=row_ids,
        )
        return np.asarray(action)

    def agreement(actions):
        return [np.mean(actions[i] == actions[j]) for i, j in ((0, 1), (0, 2), (1, 2))]

    np.testing.assert_allclose(agreement(throw(None)), 0.5, atol=0.05)
    same = agreement(throw(jnp.array([7, 7, 2])))
    np.testing.assert_allclose(same, [1.0, 0.5, 0.5], atol=0.05)


def test_a_nan_is_found_where_it_arose(clock_suite):
    suite = clock_suite([0, 1, 0], [3, NEVER, 3])
    state, metrics = TRAINER.run(
        suite, TRAINER.init(suite, jax.random.key(0), [0, 1, 0]), 1
    )
    # No episode of the second row has ended: its unknown return is no error.
    assert np.isnan(on_host(metrics)["return"][0, 1])
    assert first_nonfinite(state, metrics) is None

    kernel = state.params["policy"]["Dense_0"]["kernel"].at[1, 0, 0].set(jnp.nan)
    state.params["policy"]["Dense_0"]["kernel"] = kernel
    found = first_nonfinite(state, metrics)
    assert found is not None
    assert "['params']['policy']['Dense_0']['kernel']" in found
    assert "index 1 " in found
    state, metrics = TRAINER.run(suite, state, 1)
    assert first_nonfinite(state, metrics).endswith("of row 1 at update 1")
    metrics = jax.tree.map(lambda x: x.at[0].set(0.0), metrics)
    metrics["gradient_norm"] = metrics["gradient_norm"].at[0, 0].set(jnp.inf)
    found = first_nonfinite(state, metrics)
    assert found == "metric 'gradient_norm' of policy 0 at update 1"


@pytest.mark.slow
@pytest.mark.optimized
def test_cartpole_v1_is_solved_within_300_000_steps():
    """Gymnasium calls CartPole-v1 solved at a mean return of 475 over 100 episodes."""
    suite = make_suite("cartpole_v1")
    networks = make_actor_critic(4, 2, discrete=True)
    config = PPOConfig()
    num_updates = 300_000 // config.steps_per_update
    ppo = PPO(config, networks, num_updates)
    for seed in range(3):
        key, evaluation_key = jax.random.split(jax.random.key(seed))
        state, _ = ppo.run(suite, ppo.init(suite, key), num_updates)
        result = evaluate(
            suite,
            networks,
            state.params["policy"],
            state.observation_statistics,
            state.policy_ids,
            evaluation_key,
            100,
        )
        assert result.episode_return.mean() >= 475, f"seed {seed}"


def test_task_ids_are_not_normalized_for_networks_that_read_them(clock_suite):
    """Of a policy with one task, a normalized id would be 0 throughout."""
    suite = TaskIdSuite.create(clock_suite([0, 1, 0], [4, 4, 4]))
    settings = {"discrete": True, "hidden_sizes": (4,)}
    seen, ids = {}, jnp.array([0, 1, 1])
    for name, num_tasks in (("mlp", 0), ("film", 3)):
        networks = make_actor_critic(8, 2, **settings, name=name, num_tasks=num_tasks)
        state = PPO(CONFIG, networks, 2).init(suite, jax.random.key(0), ids)
        state, _ = PPO(CONFIG, networks, 2).run(suite, state, 2)
        seen[name] = normalize_observation(
            state.suite_state.observation, state.observation_statistics, ids
        )
    one_hot = np.broadcast_to(np.eye(3)[:, None], (3, CONFIG.num_envs, 3))
    np.testing.assert_array_equal(seen["film"][..., 5:], one_hot)
    np.testing.assert_array_equal(seen["mlp"][0, :, 5:], 0.0)
    # Everything else is normalized as it was.
    assert np.abs(seen["film"][..., :5]).max() > 1.5


def test_networks_that_read_a_task_id_need_a_suite_that_gives_one(clock_suite):
    suite = clock_suite([0, 1, 0], [4, 4, 4])
    networks = make_actor_critic(5, 2, True, name="film", num_tasks=3)
    with pytest.raises(ValueError, match="task id of length 3.*gives one of length 0"):
        PPO(CONFIG, networks, 2).init(suite, 0)
    fewer = TaskIdSuite.create(suite.select([0, 1]))
    networks = make_actor_critic(7, 2, True, name="film", num_tasks=3)
    with pytest.raises(ValueError, match="task id of length 3.*gives one of length 2"):
        PPO(CONFIG, networks, 2).init(fewer, 0)
