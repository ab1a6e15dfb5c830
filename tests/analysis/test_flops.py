"""Counts of operations, against counts by hand and XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.analysis.flops import compiled_flops, count_flops
from pgx_jax.envs import make_suite
from pgx_jax.networks.mlp import make_actor_critic
from pgx_jax.training.ppo import PPO, PPOConfig


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


def test_one_ppo_update_of_a_known_network():
    """Products of two networks of one layer dominate where the layer is wide."""
    hidden, num_envs, length, epochs, minibatches = 512, 4, 8, 3, 2
    suite = make_suite("cartpole_planted")
    config = PPOConfig(
        num_envs=num_envs,
        unroll_length=length,
        num_epochs=epochs,
        num_minibatches=minibatches,
    )
    ppo = PPO(config, make_actor_critic(4, 2, True, (hidden,)), 1)
    state = jax.eval_shape(lambda: ppo.init(suite, jax.random.key(0)))
    count = count_flops(lambda s: ppo.run(suite, s, 1), state)

    samples = suite.num_tasks * num_envs * length
    # A forward pass, products and activations; a backward one has those of the weights
    # and, from the second layer on, of the inputs.
    policy, value = 2 * hidden * (4 + 2), 2 * hidden * (4 + 1)
    backward = 2 * hidden * (4 + 2 * 2) + 2 * hidden * (4 + 2 * 1)
    acting = samples * policy
    advantages = samples * 2 * value
    learning = epochs * samples * (policy + value + backward)
    products = acting + advantages + learning
    # Adam and the norm of the gradient touch every parameter about 20 times a step.
    parameters = hidden * (4 + 1 + 2) + 2 + hidden * (4 + 1 + 1) + 1
    adam = epochs * minibatches * parameters * 20
    # Biases, tanh and their gradients: about seven a hidden unit, of either network.
    units = samples * hidden * (2 * (1 + 2) + epochs * 2 * 7)
    expected = products + adam + units
    assert products < count
    assert abs(count / expected - 1) < 0.1
