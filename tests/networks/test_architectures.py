"""What all architectures have in common: shapes, types, tasks' own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks.cases import (
    NUM_TASKS,
    PER_TASK,
    VARIANTS,
    draw_observations,
    draw_params,
    make_networks,
)

from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.networks.architectures import ARCHITECTURES

# Parameters that one row of the leading axis is of one task.
TASKS_OWN = {
    "multi_head": ["StackedDense_0"],
    "soft_modularization": ["task"],
    "paco": ["task"],
    "care": ["task"],
    "moore": ["task", "heads"],
    "film": ["task_0", "task_1"],
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "continuous"])
def test_shapes_and_types(settings, discrete):
    networks = make_networks(discrete, **settings)
    params = draw_params(networks), draw_params(networks, "value")
    x = draw_observations()
    action = np.zeros((NUM_TASKS, 7), np.int32)
    if not discrete:
        action = np.ones((NUM_TASKS, 7, 2), np.float32)

    @jax.jit
    def compute(params, x, action):
        # Of batches, and of one observation and one policy at a time.
        one_by_one = jax.vmap(
            lambda p, x, a: jax.vmap(
                lambda x, a: (networks.log_prob(p[0], x, a), networks.value(p[1], x))
            )(x, a)
        )
        stacked = jax.tree.map(lambda p: jnp.stack([p] * NUM_TASKS), params)
        batch = networks.log_prob(params[0], x, action), networks.value(params[1], x)
        return batch, one_by_one(stacked, x, action)

    batch, one_by_one = compute(params, x, action)
    for output, other in zip(batch, one_by_one, strict=True):
        assert output.shape == (NUM_TASKS, 7) and output.dtype == jnp.float32
        assert np.std(output) > 1e-3
        np.testing.assert_allclose(other, output, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_parameters_are_float32_under_x64(settings):
    networks = make_networks(discrete=False, **settings)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = jax.eval_shape(networks.init, jax.random.key(0))
        assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}
        x = draw_observations().astype(np.float64)
        for part, apply in (
            ("policy", lambda p, x: networks.distribution(p, x).mean),
            ("value", networks.value),
        ):
            assert jax.eval_shape(apply, params[part], x).dtype == jnp.float64


@pytest.mark.parametrize("name", PER_TASK)
def test_parameters_of_a_task_get_gradient_from_it_alone(name):
    networks = make_networks(discrete=False, name=name)
    params = draw_params(networks)
    task = 1

    def loss(params):
        distribution = networks.distribution(params, draw_observations()[task])
        return jnp.sum(distribution.log_prob(jnp.ones((7, 2))))

    gradient = jax.jit(jax.grad(loss))(params)
    tables = [gradient["log_std"]]
    for own in TASKS_OWN[name]:
        tables += jax.tree.leaves(gradient["mean"][own])
    for table in map(np.asarray, tables):
        assert table.shape[0] == NUM_TASKS
        assert np.abs(table[task]).max() > 1e-6
        np.testing.assert_array_equal(np.delete(table, task, axis=0), 0.0)
    shared = [k for k in gradient["mean"] if k not in TASKS_OWN[name]]
    assert shared and all(
        np.abs(x).max() > 0
        for x in jax.tree.leaves([gradient["mean"][k] for k in shared])
    )


def learn_bandit(networks, num_ids):
    """Expected rewards before and after exact policy gradients on a contextual bandit.

    In every second of four tasks the other one of two arms pays where x_0 > 0.
    """
    x = np.random.default_rng(0).normal(size=(64, 2))
    x = np.broadcast_to(x, (4, 64, 2))
    pays = (x[..., 0] > 0) ^ (np.arange(4)[:, None] % 2 == 1)
    ids = np.broadcast_to(np.eye(4, num_ids)[:, None], (4, 64, num_ids))
    observation = np.concatenate([x, ids], axis=-1).astype(np.float32)

    def reward(params):
        probs = jax.nn.softmax(networks.distribution(params, observation).logits)
        return jnp.mean(jnp.where(pays, probs[..., 1], probs[..., 0]))

    optimizer = optax.adam(0.02)

    @jax.jit
    def train(key):
        params = networks.init(key)["policy"]
        before = reward(params)

        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: -reward(p))(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        with jax.numpy_dtype_promotion("standard"):
            start = (params, optimizer.init(params))
            (params, _), _ = jax.lax.scan(step, start, None, 200)
        return before, reward(params)

    return jax.device_get(train(jax.random.key(0)))


@pytest.mark.parametrize("name", PER_TASK)
def test_opposite_tasks_are_learned_side_by_side(name):
    networks = make_actor_critic(
        6, 2, True, hidden_sizes=(16, 16), name=name, num_tasks=4
    )
    before, after = learn_bandit(networks, 4)
    assert 0.49 < before < 0.51 and after > 0.93


def test_opposite_tasks_are_not_learned_without_an_id():
    networks = make_actor_critic(2, 2, True, hidden_sizes=(16, 16))
    np.testing.assert_allclose(learn_bandit(networks, 0), 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "mlpp"}, "name must be one of mlp, multi_head, soft_modularization"),
        ({"name": "paco", "num_tasks": 0}, "num_tasks must be at least 1 where name"),
        ({"num_tasks": 5}, "num_tasks must be below observation_size = 5"),
        ({"num_modules": 2}, "num_modules must be None where name is 'mlp'"),
        ({"name": "moore", "num_modules": 7}, "num_modules must be at most 6, .*got 7"),
        ({"name": "film", "shared_head": True}, "shared_head must be False where name"),
        (
            {"name": "care", "task_embeddings": np.eye(2)},
            "task_embeddings must have a row for each of num_tasks = 3 tasks, got 2",
        ),
        (
            {"name": "paco", "task_embeddings": np.eye(3)},
            r"task_embeddings must be \(\) where name is 'paco'",
        ),
        ({"critic": "wide"}, "critic must be one of same, wide_residual"),
        ({"critic_width": 64}, "critic_width must be 512 where critic is 'same'"),
        ({"critic_depth": 3}, "critic_depth must be 2 where critic is 'same'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_networks(**settings)


def test_observations_of_another_size_are_refused():
    networks = make_networks()
    for call in (networks.distribution, networks.value):
        with pytest.raises(ValueError, match=r"observation must have .* got \[2, 4\]"):
            call({}, jnp.ones((2, 4)))


def test_every_architecture_has_a_default_of_what_its_module_mixes():
    for name, architecture in ARCHITECTURES.items():
        fields = architecture.module.__dataclass_fields__
        assert ("num_modules" in fields) == (architecture.num_modules is not None), name
        assert ("num_tasks" in fields) == architecture.reads_task_id, name
