"""The wide residual critic against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from networks.cases import dense, draw_observations, draw_params, make_networks


def normalized(params, x, i):
    x = dense(params[f"Dense_{i}"], x)
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    return x * params[f"LayerNorm_{i}"]["scale"] + params[f"LayerNorm_{i}"]["bias"]


def test_blocks_are_added_to_what_they_take():
    networks = make_networks(critic="wide_residual", critic_width=16, critic_depth=2)
    params = draw_params(networks, "value")
    x = draw_observations()
    h = np.maximum(normalized(params, x, 0), 0)
    for block in range(2):
        inner = np.maximum(normalized(params, h, 2 * block + 1), 0)
        h = h + normalized(params, inner, 2 * block + 2)
    expected = dense(params["Dense_5"], h)[..., 0]
    np.testing.assert_allclose(
        networks.value(params, x), expected, rtol=1e-4, atol=1e-5
    )


def test_opposite_values_are_learned_side_by_side():
    """Of the tasks' ids, which the first layer reads with the observation."""
    networks = make_networks(critic="wide_residual", critic_width=32)
    x = draw_observations(64)
    x[:, :, :2] = x[:1, :, :2]
    target = np.sin(2 * x[..., 0]) * np.array([1, -1, 1], np.float32)[:, None]
    optimizer = optax.adam(3e-3)

    @jax.jit
    def train(key):
        def error(params):
            return jnp.mean((networks.value(params, x) - target) ** 2)

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(error)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        with jax.numpy_dtype_promotion("standard"):
            params = networks.init(key)["value"]
            start = (params, optimizer.init(params))
            (params, _), _ = jax.lax.scan(step, start, None, 200)
        return error(params)

    # Without ids the best value is the mean over tasks, which is a third of sin.
    blind = np.mean((target - target.mean(axis=0)) ** 2)
    assert train(jax.random.key(0)) < 0.02 * blind


def test_the_actor_stays_what_it_was():
    wide = make_networks(name="film", critic="wide_residual", critic_width=16)
    assert wide.policy_network == make_networks(name="film").policy_network
