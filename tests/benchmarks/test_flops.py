"""Counts of operations, against counts by hand and XLA's own."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.envs import make_suite
from pgx_jax.evaluation.oracle import Oracle
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from flops import compiled_flops, count_flops


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (jnp.matmul, [array(3, 5), array(5, 7)], 2 * 3 * 5 * 7),
        (jnp.matmul, [array(4, 3, 5), array(4, 5, 7)], 4 * 2 * 3 * 5 * 7),
        (lambda x: jnp.tanh(x) + x, [array(3, 5)], 2 * 15),
        (lambda x: x.sum(axis=0), [array(3, 5)], 15),
        (lambda x: jax.lax.top_k(x, 2)[1] + 1, [array(9)], 0),
        (
            lambda x: jax.lax.linalg.cholesky(x, symmetrize_input=False),
            [array(2, 6, 6)],
            2 * 6**3 / 3,
        ),
        (
            # 2 x 2 kernels over 3 channels into 8, at 4 x 4 places.
            lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID"),
            [array(1, 3, 5, 5), array(8, 3, 2, 2)],
            2 * (8 * 4 * 4) * (3 * 2 * 2),
        ),
        (
            lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, 6)[0],
            [array(4, 4)],
            6 * 2 * 4**3,
        ),
        (
            lambda x, p: jax.lax.cond(p, lambda y: y, lambda y: y * y, x),
            [array(5), jax.ShapeDtypeStruct((), bool)],
            5,
        ),
        (jax.checkpoint(jax.jit(jnp.exp)), [array(5)], 5),
        (jax.nn.relu, [array(5)], 5),
    ],
)
def test_counts_by_hand(function, args, expected):
    assert count_flops(function, *args) == expected


def test_solve_takes_a_decomposition_and_two_triangular_solves():
    size, columns = 30, 4
    count = count_flops(jnp.linalg.solve, array(size, size), array(size, columns))
    expected = 2 * size**3 / 3 + 2 * size**2 * columns
    assert abs(count / expected - 1) < 0.02


def test_while_loops_need_a_number_of_rounds():
    def halve(x):
        return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x * 0.5, x)

    with pytest.raises(ValueError, match="while_iterations"):
        count_flops(halve, array(8))
    assert count_flops(halve, array(8), while_iterations=5) == 5 * (8 + 8)


def test_agrees_with_xla_without_loops_and_not_with_them():
    def loss(weights, x):
        for w in weights:
            x = jax.nn.relu(x @ w)
        return jnp.mean(x**2)

    weights = [jnp.ones((16, 64)), jnp.ones((64, 64)), jnp.ones((64, 32))]
    gradient, x = jax.grad(loss), jnp.ones((128, 16))
    count = count_flops(gradient, weights, x)
    assert abs(count / compiled_flops(gradient, weights, x) - 1) < 0.03

    def repeated(weights, x, times):
        def step(weights, _):
            return gradient(weights, x), None

        return jax.lax.scan(step, weights, None, times)[0]

    few, many = (
        compiled_flops(lambda w, x, t=t: repeated(w, x, t), weights, x)
        for t in (10, 1000)
    )
    # XLA takes a loop's body once: the reason why its figure is not used.
    np.testing.assert_allclose(many, few, rtol=0.01)
    assert count_flops(lambda w, x: repeated(w, x, 10), weights, x) == 10 * count


HIDDEN = 512
PPO_CONFIG = PPOConfig(num_envs=4, unroll_length=8, num_epochs=3, num_minibatches=2)
NETWORKS = make_actor_critic(4, 2, True, (HIDDEN,))
# Of the policy and the value function for one observation, products alone.
POLICY, VALUE = 2 * HIDDEN * (4 + 2), 2 * HIDDEN * (4 + 1)


def update_by_hand(num_tasks):
    """Products and the whole of one PPO update of one policy with one wide layer."""
    samples = num_tasks * PPO_CONFIG.steps_per_update
    # A backward pass has the products of the weights and, from the second layer on,
    # of the inputs.
    backward = 2 * HIDDEN * (4 + 2 * 2) + 2 * HIDDEN * (4 + 2 * 1)
    acting = samples * POLICY
    advantages = samples * 2 * VALUE
    learning = PPO_CONFIG.num_epochs * samples * (POLICY + VALUE + backward)
    products = acting + advantages + learning
    # Adam and the norm of the gradient touch every parameter about 20 times a step.
    parameters = HIDDEN * (4 + 1 + 2) + 2 + HIDDEN * (4 + 1 + 1) + 1
    adam = PPO_CONFIG.num_epochs * PPO_CONFIG.num_minibatches * parameters * 20
    # Biases, tanh and their gradients: about seven a hidden unit, of either network.
    units = samples * HIDDEN * (2 * (1 + 2) + PPO_CONFIG.num_epochs * 2 * 7)
    return products, products + adam + units


def test_one_ppo_update_of_a_known_network():
    """Products of two networks of one layer dominate where the layer is wide."""
    suite = make_suite("cartpole_planted")
    ppo = PPO(PPO_CONFIG, NETWORKS, 1)
    state = jax.eval_shape(lambda: ppo.init(suite, jax.random.key(0)))
    count = count_flops(lambda s: ppo.run(suite, s, 1), state)
    products, expected = update_by_hand(suite.num_tasks)
    assert products < count
    assert abs(count / expected - 1) < 0.1


def test_one_block_of_the_oracle():
    """Three subsets of two tasks: five updates each, and 500 steps of evaluation."""
    suite = make_suite("cartpole_planted")
    num_updates, num_episodes, steps = 5, 3, 500
    oracle = Oracle(PPO(PPO_CONFIG, NETWORKS, num_updates), num_episodes, block_size=3)
    meta = PPO(PPO_CONFIG, NETWORKS, 1).init(suite, jax.random.key(0))
    subsets = np.eye(10, dtype=bool)[:6].reshape(3, 2, 10).any(axis=1)
    (block,) = oracle.blocks(suite, subsets)
    fine_tune, evaluate = (
        count_flops(
            oracle.fine_tune, block, meta, jax.random.key(0), while_iterations=n
        )
        for n in (0, steps)
    )
    products, expected = update_by_hand(num_tasks=2)
    assert 3 * num_updates * products < fine_tune
    assert abs(fine_tune / (3 * num_updates * expected) - 1) < 0.1
    # Biases and tanh are two more a hidden unit.
    evaluation = 3 * 2 * num_episodes * steps * (POLICY + 2 * HIDDEN)
    assert abs((evaluate - fine_tune) / evaluation - 1) < 0.05
