"""The lunar lander environment: an MJX model that flies as Gymnasium's does.

Source: Gymnasium's LunarLander-v3 for the rules and constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from pgx_jax.envs.lunar_lander.body import (
    GROUND_WIDTH,
    GROUND_X,
    HULL_CENTER,
    HULL_MASS,
    LEG_DOWN,
    LEG_REFERENCE,
    LEG_SIDES,
    PIXEL,
    START_HEIGHT,
    TIME_STEP,
    LanderMotion,
    LunarLanderParameters,
    rotate,
    to_world,
)
from pgx_jax.envs.lunar_lander.contacts import (
    hull_touches,
    leg_contacts,
    report_contacts,
)
from pgx_jax.envs.lunar_lander.drawing import draw_lander
from pgx_jax.envs.lunar_lander.physics import engine_force, simulate, wind_force

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPISODE_LENGTH = 1000  # steps
OBSERVATION_SIZE = 8
MAX_GROUND_HEIGHT = 20 / 3  # m, before smoothing
PAD_POINTS = slice(3, 8)  # the points of the ground that are leveled for the pad
PAD_HEIGHT = 10 / 3  # m

# Box2D's islands fall asleep below these speeds, held for half a second.
REST_SPEED = 0.01  # m/s
REST_ANGULAR_SPEED = np.deg2rad(2.0)  # rad/s
REST_STEPS = 25

# What Gymnasium's reset makes of a push of F/1000 N, F_x and F_z being uniform in
# [-1000, 1000], in the one step that it takes: fitted to 200 resets, to 1e-5. The legs
# start out of their joints there, hence figures that no rigid body would give.
PUSH_SPEED = np.array([4.04280, 4.03316])  # m/s
PUSH_SHIFT = np.array([0.079827, 0.080663])  # m
PUSH_ANGULAR_SPEED = -0.457877  # rad/s, by F_x
PUSH_ANGLE = -0.00925  # rad, by F_x
START_LIFT = 0.006136  # m
START_LEG_ANGLE = 0.542 + LEG_REFERENCE  # rad


class LunarLander(Env):
    """Set a lander down between two flags, on engines that burn fuel.

    The observation, float32 [8], is Gymnasium's: x from the middle in units of 10 m,
    height of the hull above where it stands on the pad in units of 20/3 m, velocity
    along x in units of 5 m/s and along z in units of 7.5 m/s, angle in rad, angular
    velocity in units of 2.5 rad/s, and whether each leg touches the ground, 0 or 1.

    Discrete actions, int32: 0 nothing, 1 left engine, 2 main engine, 3 right engine.
    Continuous ones, float32 [2] in [-1, 1]: the main engine's throttle goes from half
    at 0 to full at 1 and is off below; the left engine's from half at -0.5 to full at
    -1, the right one's likewise above 0.5.

    The reward is the gain in `shaping`, less 0.3 for a step of the main engine and 0.03
    for one of a side engine at full throttle. A hull that touches the ground and a
    lander 10 m from the middle end the episode at -100, a lander at rest at +100, which
    counts as success.

    Attributes:
      parameters: the physics.
      continuous: whether actions are continuous.
      dispersion: whether thrusts vary at random from step to step, as in Gymnasium.
    """

    def __init__(
        self,
        parameters: LunarLanderParameters,
        continuous: bool = False,
        dispersion: bool = True,
    ):
        self.parameters = parameters
        self.continuous = continuous
        self.dispersion = dispersion

    def reset(self, rng: jax.Array) -> State:
        """Draws new ground and a new push, and starts at the top of the middle."""
        ground_key, push_key, wind_key, key = jax.random.split(rng, 4)
        heights = jax.random.uniform(ground_key, (12,), maxval=MAX_GROUND_HEIGHT)
        push = jax.random.uniform(push_key, (2,), minval=-1.0)
        motion = start(self.parameters, push)
        info = {
            "ground": smooth_ground(heights),
            "contacts": jnp.zeros((2, len(GROUND_X) - 1), bool),
            "key": key,
            "wind_phase": jax.random.randint(wind_key, (2,), -9999, 9999),
            "rest_steps": jnp.zeros((), jnp.int32),
            "throttle": jnp.zeros((2,), jnp.float32),
        }
        zero = jnp.zeros((), jnp.float32)
        return State(
            pipeline_state=motion,
            obs=observe(motion, jnp.zeros((2,), bool)),
            reward=zero,
            done=zero,
            metrics={"success": zero},
            info=info,
        )

    def step(self, state: State, action: jax.Array) -> State:
        """Takes one step of 0.02 s.

        Args:
          state: of `reset` or `step`.
          action: int32 [], or float32 [2] where actions are continuous.
        """
        motion, info = state.pipeline_state, state.info
        key, noise_key = jax.random.split(info["key"])
        noise = jnp.zeros((2,))
        if self.dispersion:
            noise = jax.random.uniform(noise_key, (2,), minval=-PIXEL, maxval=PIXEL)
        throttle = self.throttle(action)
        in_wind = ~jnp.any(state.obs[6:] > 0)
        force = engine_force(self.parameters, motion.position, throttle, noise)
        wind = wind_force(self.parameters, info["wind_phase"])
        force += jnp.where(in_wind, wind, 0.0)

        # Box2D reports the contacts that a step starts with.
        crashed = hull_touches(motion.position, info["ground"])
        contacts = leg_contacts(motion.position, info["ground"])
        touching = report_contacts(info["contacts"], contacts, state.obs[6:] > 0)
        motion = simulate(self.parameters, motion, info["ground"], force)

        observation = observe(motion, touching)
        rest_steps = jnp.where(_is_slow(motion.velocity), info["rest_steps"] + 1, 0)
        failed = crashed | (jnp.abs(observation[0]) >= 1)
        landed = rest_steps >= REST_STEPS
        reward = shaping(observation) - shaping(state.obs) - fuel_cost(throttle)
        reward = jnp.where(failed, -100.0, reward)
        reward = jnp.where(landed, 100.0, reward)
        return state.replace(
            pipeline_state=motion,
            obs=observation,
            reward=reward,
            done=(failed | landed).astype(jnp.float32),
            metrics={"success": landed.astype(jnp.float32)},
            info=info
            | {
                "contacts": contacts,
                "key": key,
                "wind_phase": info["wind_phase"] + in_wind.astype(jnp.int32),
                "rest_steps": rest_steps,
                "throttle": throttle,
            },
        )

    @property
    def dt(self) -> float:
        """Time between two steps, in s."""
        return TIME_STEP

    def draw(self, axes: Axes, state: State) -> None:
        """Draws one state, without leading axes, onto empty Matplotlib axes.

        Lengths are true, in m. A flame is as long as its engine's throttle is open.
        """
        draw_lander(axes, state)

    @property
    def observation_size(self) -> int:
        return OBSERVATION_SIZE

    @property
    def action_size(self) -> int:
        """The number of discrete actions, or the length of a continuous one."""
        return 2 if self.continuous else 4

    @property
    def backend(self) -> str:
        return "mjx"

    def throttle(self, action: jax.Array) -> jax.Array:
        """Of the main engine in 0..1, and of the side engines, left negative; [2]."""
        if not self.continuous:
            main = jnp.where(action == 2, 1.0, 0.0)
            side = jnp.where(action == 3, 1.0, 0.0) - jnp.where(action == 1, 1.0, 0.0)
        else:
            action = jnp.clip(action, -1, 1)
            main = jnp.where(action[0] > 0, (action[0] + 1) / 2, 0.0)
            side = jnp.where(jnp.abs(action[1]) > 0.5, action[1], 0.0)
        return jnp.stack([main, side]).astype(jnp.float32)


def smooth_ground(heights: jax.Array) -> jax.Array:
    """The ground made of 12 random heights in m: 11 points at `GROUND_X`, float32.

    Each point is 0.33 times the sum of itself and its two neighbors, once the points
    about the pad have been leveled; the twelfth height is the first one's neighbor.
    """
    heights = heights.at[PAD_POINTS].set(PAD_HEIGHT)
    inner = heights[:-1]
    return 0.33 * (jnp.roll(heights, 1)[:-1] + inner + heights[1:])


def start(parameters: LunarLanderParameters, push: jax.Array) -> LanderMotion:
    """The lander at the top of the middle, one step after a push.

    Args:
      parameters: of one task.
      push: along x and z, in [-1, 1]; float32 [2].
    """
    push = push * HULL_MASS / parameters.hull_mass
    shift = PUSH_SHIFT * push
    fall = TIME_STEP * parameters.gravity
    speed = PUSH_SPEED * push
    angle = PUSH_ANGLE * push[0]
    # The height is of the hull's origin, which its center of mass lies above.
    center = rotate(HULL_CENTER, angle)
    x = GROUND_WIDTH / 2 + shift[0] + center[0]
    z = START_HEIGHT + START_LIFT + shift[1] - TIME_STEP * fall + center[1]
    legs = START_LEG_ANGLE * LEG_SIDES
    position = jnp.stack([x, z, angle, legs[0], legs[1]])
    still = jnp.zeros((2,))
    turn = PUSH_ANGULAR_SPEED * push[0]
    velocity = jnp.stack([speed[0], speed[1] - fall, turn, *still])
    return LanderMotion(position.astype(jnp.float32), velocity.astype(jnp.float32))


def observe(motion: LanderMotion, touching: jax.Array) -> jax.Array:
    """The observation, float32 [8].

    Args:
      motion: of the lander.
      touching: whether each leg touches the ground; bool [2].
    """
    origin = to_world(motion.position, np.zeros((1, 2)))[0]
    x, z = origin - np.array([GROUND_WIDTH / 2, PAD_HEIGHT + LEG_DOWN])
    velocity = motion.velocity
    return jnp.stack(
        [
            x / 10,
            z / (20 / 3),
            velocity[0] / 5,
            velocity[1] / 7.5,
            motion.position[2],
            velocity[2] / 2.5,
            *touching.astype(jnp.float32),
        ]
    ).astype(jnp.float32)


def shaping(observation: jax.Array) -> jax.Array:
    """The potential whose gain is the reward; observations [..., 8] to [...].

    -100 times distance, speed and angle, each in the observation's units, and 10 for
    each leg on the ground.
    """
    distance = jnp.hypot(observation[..., 0], observation[..., 1])
    speed = jnp.hypot(observation[..., 2], observation[..., 3])
    angle = jnp.abs(observation[..., 4])
    legs = observation[..., 6] + observation[..., 7]
    return -100 * (distance + speed + angle) + 10 * legs


def fuel_cost(throttle: jax.Array) -> jax.Array:
    """What a step costs at throttles [..., 2] of the main and the side engines."""
    return 0.3 * throttle[..., 0] + 0.03 * jnp.abs(throttle[..., 1])


def _is_slow(velocity: jax.Array) -> jax.Array:
    """Whether Box2D would count the lander as at rest; bool."""
    turning = jnp.stack(
        [velocity[2], velocity[2] + velocity[3], velocity[2] + velocity[4]]
    )
    return (jnp.hypot(velocity[0], velocity[1]) < REST_SPEED) & jnp.all(
        jnp.abs(turning) < REST_ANGULAR_SPEED
    )
