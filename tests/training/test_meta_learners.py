"""MAML, Reptile and the policy gradient on bandits solved by hand."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.networks.distributions import Categorical
from pgx_jax.training.learners import LEARNERS, InnerConfig, make_trainer
from pgx_jax.training.learning import Batch
from pgx_jax.training.maml import MAML, meta_loss
from pgx_jax.training.policy_gradient import PolicyGradient, policy_gradient
from pgx_jax.training.ppo import PPO, PPOConfig
from pgx_jax.training.reptile import Reptile, move

CONFIG = PPOConfig(
    num_envs=16,
    unroll_length=4,
    num_epochs=2,
    num_minibatches=4,
    learning_rate=1e-2,
    discount=0.0,
    entropy_cost=0.0,
    value_cost=0.0,
)
NETWORKS = make_actor_critic(5, 2, discrete=True, hidden_sizes=(8,))
UPDATES = 60

# One state, two arms and one parameter x, the logit of arm 1.
BANDIT = types.SimpleNamespace(
    distribution=lambda params, observation: Categorical(
        jnp.stack([jnp.zeros(len(observation)), params["x"] * observation[:, 0]], -1)
    ),
    value=lambda params, observation: params["v"] * observation[:, 0],
)


def exact_batch(x, rewards):
    """Both arms once, advantages weighted so that means are expectations under x."""
    p = 1 / (1 + np.exp(-x))
    probability = np.array([1 - p, p])
    return Batch(
        observation=jnp.ones((2, 1)),
        action=jnp.array([0, 1]),
        log_prob=jnp.log(jnp.asarray(probability, jnp.float32)),
        advantage=jnp.asarray(2 * probability * rewards, jnp.float32),
        value_target=jnp.zeros(2),
    )


def derivatives(x, rewards):
    """The first two of J(x) = p r_1 + (1 - p) r_0."""
    p, gap = 1 / (1 + np.exp(-x)), rewards[1] - rewards[0]
    return p * (1 - p) * gap, p * (1 - p) * (1 - 2 * p) * gap


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_outer_gradient_is_that_of_the_closed_form(first_order, num_steps):
    """d/dx J(x_K) = J'(x_K) prod_j (1 + alpha J''(x_j)); first order: J'(x_K)."""
    x, rate, rewards = np.log(3.0), 0.7, np.array([-1.0, 2.0])
    batches, expected, at = [], 1.0, x
    for _ in range(num_steps):
        batches.append(exact_batch(at, rewards))
        slope, curvature = derivatives(at, rewards)
        expected *= 1.0 if first_order else 1 + rate * curvature
        at += rate * slope
    batches.append(exact_batch(at, rewards))
    expected *= derivatives(at, rewards)[0]
    batch = jax.tree.map(lambda *parts: jnp.stack(parts)[None], *batches)
    params = {"policy": {"x": jnp.array([x], jnp.float32)}, "value": {"v": jnp.ones(1)}}

    def loss(params):
        return meta_loss(
            CONFIG,
            BANDIT,
            params,
            jnp.zeros(1, jnp.int32),
            batch,
            jnp.arange(2),
            rate,
            first_order=first_order,
        )[0]

    gradient = jax.grad(loss)(params)["policy"]["x"]
    np.testing.assert_allclose(-gradient, [expected], rtol=1e-5)


def test_the_hessian_has_the_term_of_sampling():
    """The derivative of log pi A lacks it: it gives -p (1 - p) E[A]."""
    x, rewards = np.log(3.0), np.array([-1.0, 2.0])
    batch = exact_batch(x, rewards)

    def gradient(x):
        return policy_gradient(BANDIT, {"x": x}, batch, 0.2)[0]["x"]

    hessian = -jax.grad(gradient)(jnp.float32(x))
    np.testing.assert_allclose(hessian, derivatives(x, rewards)[1], rtol=1e-5)
    assert abs(derivatives(x, rewards)[1] + 3 / 16 * 1.25) > 0.01


def test_reptile_moves_to_the_mean_of_the_tasks_of_a_policy():
    params = {"x": jnp.array([[0.0, 1.0], [4.0, 4.0]])}
    adapted = {"x": jnp.array([[2.0, 1.0], [8.0, 0.0], [4.0, 3.0]])}
    moved = move(params, adapted, jnp.array([0, 1, 0]), jnp.array([0.5, 0.25]))
    np.testing.assert_allclose(moved["x"], [[1.5, 1.5], [5.0, 3.0]])


def test_reptile_of_one_task_a_policy_is_ppo(clock_suite):
    """Its first update: the copy moves all the way, and starts Adam as PPO does."""
    suite = clock_suite([0, 1, 0], [3] * 3)
    config = dataclasses.replace(CONFIG, anneal_learning_rate=False)
    states = []
    for trainer in (PPO(config, NETWORKS, 4), Reptile(config, NETWORKS, 4)):
        state = trainer.init(suite, jax.random.key(0), [0, 1, 2])
        states.append(trainer.run(suite, state, 1)[0])
    for one, two in zip(*(jax.tree.leaves(x.params) for x in states), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def return_after_one_step(suite, state):
    """What one policy-gradient step on each task leads to, from one policy."""
    config = dataclasses.replace(CONFIG, num_envs=64)
    trainer = PolicyGradient(config, NETWORKS, 2, inner_learning_rate=1.0)
    start = trainer.init_from(
        suite,
        jax.random.key(7),
        np.arange(suite.num_tasks),
        state.params,
        state.observation_statistics,
        jax.tree.map(jnp.copy, state.value_statistics),
    )
    _, metrics = trainer.run(suite, start, 2)
    return np.asarray(metrics["return"])  # [before, after]


def test_maml_adapts_further_in_one_step_than_ppo(clock_suite):
    """Two tasks pay for opposite arms: no policy is good at both before it adapts."""
    suite = clock_suite([0, 1], [1, 1])
    after = {}
    for name in ("ppo", "maml", "first_order_maml"):
        inner = InnerConfig(learning_rate=1.0)
        trainer = make_trainer(name, CONFIG, NETWORKS, UPDATES, inner)
        state = trainer.init(suite, jax.random.key(0))
        state, _ = trainer.run(suite, state, UPDATES)
        before, after[name] = return_after_one_step(suite, state)
        assert before.mean() == pytest.approx(0.5, abs=0.1)
    assert after["maml"].min() > 0.9
    assert after["maml"].min() > after["ppo"].min() + 0.2
    assert after["first_order_maml"].min() > after["ppo"].min() + 0.2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            x, marks=pytest.mark.reliability if x == "first_order_maml" else []
        )
        for x in (*LEARNERS[1:], "policy_gradient")
    ],
)
def test_a_run_in_two_parts_is_the_run_in_one(name, clock_suite):
    suite = clock_suite([0, 1, 0], [3, 99, 3])
    trainer = make_trainer(name, CONFIG, NETWORKS, [2, 3], InnerConfig())

    def start():
        return trainer.init(suite, jax.random.key(0), [0, 1, 0])

    whole, state = trainer.run(suite, start(), 3)[0], start()
    for _ in range(3):
        kept = jax.tree.map(np.asarray, state.params["policy"])
        state, metrics = trainer.run(suite, state, 1)
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, two = jax.random.key_data(one), jax.random.key_data(two)
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    # The run of the first policy was over before the third update.
    changes = [
        np.abs(old - np.asarray(new)).reshape(2, -1).max(axis=1)
        for old, new in zip(
            jax.tree.leaves(kept), jax.tree.leaves(state.params["policy"]), strict=True
        )
    ]
    first, second = np.max(changes, axis=0)
    assert first == 0.0 < second
    assert all(np.isfinite(x).all() for x in metrics.values())


def test_settings_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="num_envs must be a multiple of .* = 3"):
        MAML(CONFIG, NETWORKS, 1, num_inner_steps=2)
    config = dataclasses.replace(CONFIG, num_minibatches=64)
    with pytest.raises(ValueError, match="num_minibatches must divide .* = 32"):
        MAML(config, NETWORKS, 1)
    with pytest.raises(ValueError, match="num_inner_steps must be"):
        MAML(CONFIG, NETWORKS, 1, num_inner_steps=0)
    with pytest.raises(ValueError, match="inner_learning_rate must be positive"):
        PolicyGradient(CONFIG, NETWORKS, 1, inner_learning_rate=0.0)
    with pytest.raises(ValueError, match="learner must be"):
        make_trainer("reptil", CONFIG, NETWORKS, 1, InnerConfig())
