"""The suites of CartPole tasks.

One task is one set of physical parameters. Actions index a table of forces, so that
tasks can also differ in what an action means: suites with groups known beforehand are
made by permuting that table.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from pgx_jax.envs.cartpole.env import EPISODE_LENGTH, CartPole
from pgx_jax.envs.cartpole.physics import CartPoleParameters
from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.splits import find_split


def cartpole_v1() -> FamilySuite:
    """One task: the parameters of Gymnasium's CartPole-v1."""
    parameters = _parameters(forces=np.array([[-10.0, 10.0]]))
    return _suite("cartpole_v1", parameters, ("CartPole-v1",))


def cartpole(split: str = "source") -> FamilySuite:
    """Tasks that differ in pole length, pole mass, cart mass, gravity and force.

    The 10 source tasks and the 50 target tasks are drawn once, from the same ranges,
    with fixed seeds. Lengths, masses and forces are drawn log-uniformly, and the force
    spans both signs: half of the tasks have the motor wired the other way round, since
    without those one policy soon solves all the others. A policy sees none of this.

    Args:
      split: "source" or "target".
    """
    seed, num_tasks = find_split(split)
    rng = np.random.default_rng(seed)

    def log_uniform(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), num_tasks))

    half_length = log_uniform(0.1, 1.5)
    pole_mass = log_uniform(0.05, 1.0)
    cart_mass = log_uniform(0.3, 3.0)
    gravity = rng.uniform(5.0, 20.0, num_tasks)
    # The force is drawn as a push per unit of mass: below gravity times a few degrees
    # no policy could hold the pole.
    force = log_uniform(4.0, 20.0) * (cart_mass + pole_mass)
    force = force * rng.permutation(np.resize([1.0, -1.0], num_tasks))
    parameters = _parameters(
        forces=force[:, None] * np.array([-1.0, 1.0]),
        gravity=gravity,
        cart_mass=cart_mass,
        pole_mass=pole_mass,
        pole_half_length=half_length,
    )
    names = tuple(
        f"L={2 * length:.2f} F={f:+.0f} M={mass:.1f}"
        for length, f, mass in zip(half_length, force, cart_mass, strict=True)
    )
    return _suite("cartpole", parameters, names)


def cartpole_planted(num_groups: int = 2, num_tasks: int = 10) -> FamilySuite:
    """Tasks in groups known beforehand: within a group an action means the same push.

    With two groups the second has its force reversed. With more, actions index a table
    of `num_groups` forces spread evenly over [-10, 10] N, which each further group
    shifts cyclically by one place. Within a group, tasks differ in pole length by up to
    20 percent. No observation distinguishes the groups.

    Args:
      num_groups: at least 2.
      num_tasks: at least two a group. Tasks of a group share a letter: A1, A2, ...

    Raises:
      ValueError: too few groups or tasks.
    """
    if num_groups < 2 or num_tasks < 2 * num_groups:
        raise ValueError(
            "cartpole_planted needs num_groups >= 2 and num_tasks >= 2 * num_groups, "
            f"got num_groups={num_groups}, num_tasks={num_tasks}"
        )
    labels = np.arange(num_tasks) * num_groups // num_tasks
    table = np.linspace(-10.0, 10.0, num_groups)
    forces = np.stack([np.roll(table, label) for label in labels])
    member = np.array([np.sum(labels[:i] == labels[i]) for i in range(num_tasks)])
    half_length = 0.5 * (0.8 + 0.4 * member / member.max())
    parameters = _parameters(forces=forces, pole_half_length=half_length)
    names = tuple(
        f"{'ABCDEFGH'[g % 8]}{i + 1}" for g, i in zip(labels, member, strict=True)
    )
    name = "cartpole_planted" if num_groups == 2 else f"cartpole_planted_{num_groups}"
    return _suite(name, parameters, names, tuple(int(g) for g in labels))


def _parameters(
    *,
    forces: np.ndarray,
    gravity: ArrayLike = 9.8,
    cart_mass: ArrayLike = 1.0,
    pole_mass: ArrayLike = 0.1,
    pole_half_length: ArrayLike = 0.5,
) -> CartPoleParameters:
    """Fills the parameters of n tasks, n being the length of `forces` [n, actions]."""
    num_tasks = len(forces)

    def fill(value):
        return jnp.asarray(np.broadcast_to(value, (num_tasks,)), jnp.float32)

    return CartPoleParameters(
        gravity=fill(gravity),
        cart_mass=fill(cart_mass),
        pole_mass=fill(pole_mass),
        pole_half_length=fill(pole_half_length),
        forces=jnp.asarray(forces, jnp.float32),
    )


def _suite(name, parameters, task_names, planted_labels=None) -> FamilySuite:
    return FamilySuite(
        make_env=CartPole,
        parameters=parameters,
        name=name,
        task_names=task_names,
        observation_size=4,
        action_space=ActionSpace(size=parameters.forces.shape[-1], discrete=True),
        episode_length=EPISODE_LENGTH,
        planted_labels=planted_labels,
    )
