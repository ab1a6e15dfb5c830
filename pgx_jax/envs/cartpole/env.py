"""CartPole as a family of tasks: the dynamics of Gymnasium's CartPole-v1 in JAX.

One task is one set of physical parameters. Actions index a table of forces, so that
tasks can also differ in what an action means: suites with groups known beforehand are
made by permuting that table.

Source: Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve
difficult learning control problems", 1983; Gymnasium's CartPole-v1 for the constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State
from numpy.typing import ArrayLike

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.splits import find_split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIME_STEP = 0.02  # s
ANGLE_LIMIT = 12 * np.pi / 180  # rad
POSITION_LIMIT = 2.4  # m
EPISODE_LENGTH = 500  # steps


class CartPoleParameters(NamedTuple):
    """The physics of one task, or of n tasks with a leading axis.

    Attributes:
      gravity: m/s^2; float32.
      cart_mass: kg; float32.
      pole_mass: kg; float32.
      pole_half_length: m, from the hinge to the pole's center; float32.
      forces: N, the horizontal force of each action; float32 [..., num_actions].
    """

    gravity: jax.Array
    cart_mass: jax.Array
    pole_mass: jax.Array
    pole_half_length: jax.Array
    forces: jax.Array


class CartPole(Env):
    """Keep a pole upright on a cart that is pushed left or right.

    The observation is (position in m, velocity in m/s, angle in rad, angular velocity
    in rad/s), float32 [4]; the reward is 1 for every step, the last one included; the
    episode terminates when the angle passes 12 degrees or the position 2.4 m.
    """

    def __init__(self, parameters: CartPoleParameters):
        self.parameters = parameters

    def reset(self, rng: jax.Array) -> State:
        observation = jax.random.uniform(rng, (4,), minval=-0.05, maxval=0.05)
        zero = jnp.zeros((), jnp.float32)
        return State(pipeline_state=None, obs=observation, reward=zero, done=zero)

    def step(self, state: State, action: jax.Array) -> State:
        p = self.parameters
        position, velocity, angle, angular_velocity = state.obs
        force = p.forces[action]
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        total_mass = p.cart_mass + p.pole_mass
        moment = p.pole_mass * p.pole_half_length

        push = (force + moment * angular_velocity**2 * sin) / total_mass
        angular_acceleration = (p.gravity * sin - cos * push) / (
            p.pole_half_length * (4.0 / 3.0 - p.pole_mass * cos**2 / total_mass)
        )
        acceleration = push - moment * angular_acceleration * cos / total_mass

        observation = jnp.stack(
            [
                position + TIME_STEP * velocity,
                velocity + TIME_STEP * acceleration,
                angle + TIME_STEP * angular_velocity,
                angular_velocity + TIME_STEP * angular_acceleration,
            ]
        )
        fallen = (jnp.abs(observation[0]) > POSITION_LIMIT) | (
            jnp.abs(observation[2]) > ANGLE_LIMIT
        )
        return state.replace(
            obs=observation,
            reward=jnp.ones((), jnp.float32),
            done=fallen.astype(jnp.float32),
        )

    @property
    def observation_size(self) -> int:
        return 4

    @property
    def action_size(self) -> int:
        """The number of discrete actions."""
        return self.parameters.forces.shape[-1]

    @property
    def backend(self) -> str:
        return "jax"

    @property
    def dt(self) -> float:
        """Time between two steps, in s."""
        return TIME_STEP

    def draw(self, axes: Axes, state: State) -> None:
        """Draws one state, without leading axes, onto empty Matplotlib axes.

        Lengths are true, in m, with the hinge at a height of 0. The wedge is what the
        pole may lean without ending the episode, the stops are the ends of the track.
        """
        from matplotlib.patches import Circle, FancyBboxPatch, Wedge

        p = jax.tree.map(np.asarray, self.parameters)
        position, _, angle, _ = np.asarray(state.obs)
        length = 2.0 * float(p.pole_half_length)
        # Sizes in proportion to the cube root of the mass.
        width, height = 0.62 * np.cbrt(p.cart_mass), 0.3 * np.cbrt(p.cart_mass)
        pole_width = 0.14 * np.cbrt(p.pole_mass / 0.1)
        wheel, track = 0.09, -height / 2 - 0.16

        axes.plot([-POSITION_LIMIT, POSITION_LIMIT], [track, track], **_line(2.5))
        for end in (-POSITION_LIMIT, POSITION_LIMIT):
            axes.plot([end, end], [track, track + 0.14], **_line(2.5))
        limit = np.rad2deg(ANGLE_LIMIT)
        axes.add_patch(
            Wedge((position, 0), 1.12 * length, 90 - limit, 90 + limit, color="#eef0f6")
        )
        for side in (-0.3, 0.3):
            center = (position + side * width, track + wheel)
            axes.add_patch(Circle(center, wheel, color="#6b7280"))
        cart = FancyBboxPatch(
            (position - width / 2 + 0.05, -height / 2 + 0.05),
            width - 0.1,
            height - 0.1,
            boxstyle="round,pad=0.05",
            color="#1f2430",
        )
        axes.add_patch(cart)
        sin, cos = np.sin(angle), np.cos(angle)
        pole = FancyBboxPatch(
            (-pole_width / 2 + 0.02, 0.02),
            pole_width - 0.04,
            length - 0.04,
            boxstyle="round,pad=0.02",
            color="#6457d0",
            transform=_turned(axes, position, sin, cos),
        )
        axes.add_patch(pole)
        axes.add_patch(Circle((position, 0), 0.055, color="#ffffff", zorder=3))

        # A long pole is looked at from farther away.
        top = max(1.62, 1.15 * length + 0.1)
        bottom = track - 0.2
        across = max(2 * POSITION_LIMIT + 0.8, 2.05 * (top - bottom))
        axes.set(xlim=(-across / 2, across / 2), ylim=(bottom, top), aspect="equal")


def _line(width: float) -> dict[str, Any]:
    return {"color": "#c5cad3", "linewidth": width, "solid_capstyle": "round"}


def _turned(axes: Axes, position: float, sin: float, cos: float):
    """Of a drawing at the origin: leaning to the right, and moved to a position."""
    from matplotlib.transforms import Affine2D

    return Affine2D([[cos, sin, position], [-sin, cos, 0], [0, 0, 1]]) + axes.transData


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
    20 percent. No observation tells the groups apart.

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
