"""LunarLander as a family of tasks: an MJX model that flies as Gymnasium's does.

A hull on two sprung legs moves in a vertical plane above uneven ground. One task is one
set of physical parameters. The frame is Gymnasium's: x to the right, z up, in meters,
the ground spanning 0..20 m; angles are counter-clockwise, in rad.

MJX computes the dynamics; its constraints are asked for what Box2D's give, see
`_solve`. Each corner of a foot touches a plane of its own, laid at every step through
the stretch of ground beneath it, so that ground of any shape costs four contacts. The
hull needs none: where it touches, the episode ends. What is left of the difference: a
peak of the ground does not push against the side of a leg, and a foot that comes down
fast is stopped at the end of a step, where Box2D goes back to the moment of impact.

Source: Gymnasium's LunarLander-v3 for the rules and constants.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.envs.base import Env, State
from mujoco import mjx

from pgx_jax.envs.core import ActionSpace
from pgx_jax.envs.family import FamilySuite
from pgx_jax.envs.splits import find_split

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIME_STEP = 0.02  # s
EPISODE_LENGTH = 1000  # steps
OBSERVATION_SIZE = 8
PIXEL = 1 / 30  # m; Gymnasium gives lengths in pixels

GROUND_WIDTH = 20.0  # m
GROUND_X = np.linspace(0.0, GROUND_WIDTH, 11)  # m
MAX_GROUND_HEIGHT = 20 / 3  # m, before smoothing
PAD_POINTS = slice(3, 8)  # the points of the ground that are leveled for the pad
PAD_HEIGHT = 10 / 3  # m
PAD_EDGES = (8.0, 12.0)  # m, where the flags stand
START_HEIGHT = 40 / 3  # m
SKIN = 0.02  # m; Box2D has two bodies touch at this distance

# Box2D leaves what bodies are in each other by up to here, and takes back a share of
# what is beyond in each step.
SLACK = 0.005  # m
LIMIT_SLACK = np.deg2rad(2.0)  # rad, of the legs' limits
CORRECTION = 0.2

HULL = PIXEL * np.array(
    [[-14, 17], [-17, 0], [-17, -10], [17, -10], [17, 0], [14, 17]], float
)
HULL_DENSITY = 5.0  # kg/m^2
LEG_SIDES = np.array([1.0, -1.0])  # Gymnasium's first leg is the one on the right
LEG_AWAY = 20 * PIXEL  # m, from the joint to the middle of a leg, along x
LEG_DOWN = 18 * PIXEL  # m, the same along z
LEG_HALF_SIZE = PIXEL * np.array([2.0, 8.0])  # m
LEG_DENSITY = 1.0  # kg/m^2
# Gymnasium builds a leg turned inwards by 0.05 rad and counts the angle of its joint,
# of which it sets the limits, from there.
LEG_REFERENCE = -0.05  # rad
LEG_RANGE = (0.4 + LEG_REFERENCE, 0.9 + LEG_REFERENCE)  # rad, outwards
LEG_TORQUE = 40.0  # N m, the most that a leg's motor gives
LEG_SPEED = 0.3  # rad/s, at which the motor turns a leg inwards

MAIN_LEVER = 4 * PIXEL  # m, of the main engine below the hull's origin
SIDE_LEVER = 12 * PIXEL  # m, of the side engines from the hull's axis
# The height of the side engines differs along x and z, which makes their torque depend
# on the hull's angle; a slip of Gymnasium's, kept.
SIDE_HEIGHT = PIXEL * np.array([17.0, 14.0])  # m

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


def polygon_mass(
    vertices: np.ndarray, density: float
) -> tuple[float, np.ndarray, float]:
    """Mass, center and moment of inertia of a flat polygon.

    Args:
      vertices: m, in counter-clockwise order; [n, 2].
      density: kg/m^2.

    Returns:
      The mass in kg, the center of mass in m, [2], and the moment of inertia about that
      center in kg m^2.
    """
    following = np.roll(vertices, -1, axis=0)
    cross = vertices[:, 0] * following[:, 1] - vertices[:, 1] * following[:, 0]
    area = cross.sum() / 2
    center = (cross[:, None] * (vertices + following)).sum(axis=0) / (6 * area)
    squares = (vertices**2 + vertices * following + following**2).sum(axis=1)
    about_origin = (cross * squares).sum() / 12
    inertia = density * (about_origin - area * center @ center)
    return float(density * area), center, float(inertia)


def _box(half_size: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Corners of a box, counter-clockwise from the lower left one; [4, 2]."""
    return center + half_size * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


HULL_MASS, HULL_CENTER, HULL_INERTIA = polygon_mass(HULL, HULL_DENSITY)
# Legs in the frame of their joint, which sits at the hull's origin; [leg, corner, 2].
LEGS = np.stack(
    [_box(LEG_HALF_SIZE, np.array([side * LEG_AWAY, -LEG_DOWN])) for side in LEG_SIDES]
)
LEG_MASS, _, LEG_INERTIA = polygon_mass(LEGS[0], LEG_DENSITY)
FEET = LEGS[:, :2]
TOTAL_MASS = HULL_MASS + 2 * LEG_MASS
STANDARD_GRAVITY = 10.0  # m/s^2


class LunarLanderParameters(NamedTuple):
    """The physics of one task, or of n tasks with a leading axis; all float32.

    Attributes:
      gravity: m/s^2, downwards.
      hull_mass: kg; the legs' masses and all inertias scale along, and the torque of
        the legs' motors with the weight.
      main_thrust: N, of the main engine at full throttle.
      side_thrust: N, of either side engine at full throttle.
      steady_wind: N, along x.
      gust: N, the largest force of Gymnasium's changing wind along x.
      turbulence: N m, the largest torque of that wind.
    """

    gravity: jax.Array
    hull_mass: jax.Array
    main_thrust: jax.Array
    side_thrust: jax.Array
    steady_wind: jax.Array
    gust: jax.Array
    turbulence: jax.Array


class Motion(NamedTuple):
    """What the simulator goes on from; float32.

    Attributes:
      position: x and z of the hull's center of mass in m, the hull's angle in rad, and
        the angles of the legs relative to the hull in rad; [5].
      velocity: their rates; [5].
    """

    position: jax.Array
    velocity: jax.Array


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
        force += in_wind * wind_force(self.parameters, info["wind_phase"])

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
                "wind_phase": info["wind_phase"] + in_wind,
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
        from matplotlib.patches import Polygon

        position = np.asarray(state.pipeline_state.position)
        ground = np.asarray(state.info["ground"])
        axes.fill_between(GROUND_X, ground, color="#e3e7ec", linewidth=0)
        axes.plot(GROUND_X, ground, color="#c5cad3", linewidth=2)
        foot = ground[len(ground) // 2]
        axes.plot(PAD_EDGES, [foot, foot], color="#1f2430", linewidth=2.5)
        for x in PAD_EDGES:
            axes.plot([x, x], [foot, foot + 1.6], color="#1f2430", linewidth=1)
            flag = np.array([[0.0, 1.6], [0.0, 1.1], [0.8, 1.35]]) + [x, foot]
            axes.add_patch(Polygon(flag, facecolor="#f2b632", linewidth=0))
        for outline in _flames(*np.asarray(state.info["throttle"])):
            flame = to_world(position, outline)
            axes.add_patch(Polygon(flame, facecolor="#f0803c", linewidth=0))
        hips = to_world(position, _HIPS)
        for hip, leg in zip(hips, leg_points(position, LEGS), strict=True):
            axes.plot(
                *np.stack([hip, leg.mean(axis=0)]).T, color="#1f2430", linewidth=2
            )
            axes.add_patch(Polygon(leg, facecolor="#1f2430", linewidth=0))
        hull = to_world(position, HULL)
        axes.add_patch(Polygon(hull, facecolor="#6457d0", linewidth=0))
        axes.set(xlim=(0, GROUND_WIDTH), ylim=(0, START_HEIGHT), aspect="equal")

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
            main = action == 2
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


def start(parameters: LunarLanderParameters, push: jax.Array) -> Motion:
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
    return Motion(position.astype(jnp.float32), velocity.astype(jnp.float32))


def observe(motion: Motion, touching: jax.Array) -> jax.Array:
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
            *touching,
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


def engine_force(
    parameters: LunarLanderParameters,
    position: jax.Array,
    throttle: jax.Array,
    noise: jax.Array,
) -> jax.Array:
    """Force along x and z in N, and torque about the hull's center in N m; [3].

    Args:
      parameters: of one task.
      position: of the lander, [5].
      throttle: of the main engine in 0..1 and of the side engines in -1..1; [2].
      noise: along the hull's axis and across it, within 1/30 m; [2]. Gymnasium makes
        an engine's impulse proportional to where it sits, so that noise in the place
        is noise in the thrust: up to half of the main engine's.
    """
    angle = position[2]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    up, right = jnp.stack([-sin, cos]), jnp.stack([cos, sin])
    origin = -rotate(HULL_CENTER, angle)  # from the center of mass

    main = (MAIN_LEVER + 2 * noise[0]) * up + noise[1] * right
    side_lever = 3 * noise[1] + jnp.sign(throttle[1]) * SIDE_LEVER
    side = noise[0] * up + side_lever * right
    main_force = parameters.main_thrust * throttle[0] / MAIN_LEVER * main
    side_force = parameters.side_thrust * jnp.abs(throttle[1]) / SIDE_LEVER * side
    torque = _cross(origin - main, main_force) + _cross(
        origin - side + SIDE_HEIGHT * up, side_force
    )
    return jnp.append(main_force + side_force, torque)


def wind_force(parameters: LunarLanderParameters, phase: jax.Array) -> jax.Array:
    """Force along x and z in N, and torque in N m; [3].

    Args:
      parameters: of one task.
      phase: of the gusts and of the turbulence, in steps; int32 [2].
    """
    wave = jnp.tanh(jnp.sin(0.02 * phase) + jnp.sin(np.pi * 0.01 * phase))
    along = parameters.steady_wind + parameters.gust * wave[0]
    return jnp.stack([along, jnp.zeros(()), parameters.turbulence * wave[1]])


def hull_touches(position: jax.Array, ground: jax.Array) -> jax.Array:
    """Whether the hull of a lander at `position` [5] touches `ground` [11]; bool."""
    corners = to_world(position, HULL)
    corner_touches = jnp.any(clearance(corners, ground) < SKIN)
    # A peak of the ground may stick into a side: it does if inside of all sides.
    peaks = jnp.stack([jnp.asarray(GROUND_X, jnp.float32), ground], axis=1)
    sides = jnp.roll(corners, -1, axis=0) - corners
    outwards = -_cross(sides, peaks[:, None] - corners) / np.linalg.norm(
        np.roll(HULL, -1, axis=0) - HULL, axis=1
    )
    return corner_touches | jnp.any(jnp.max(outwards, axis=1) < SKIN)


def leg_contacts(position: jax.Array, ground: jax.Array) -> jax.Array:
    """Whether each leg touches each stretch of the ground; bool [2, 10].

    Box2D takes two convex shapes for touching if no side of either keeps them apart.
    """
    legs = leg_points(position, LEGS)[:, None]
    points = jnp.stack([jnp.asarray(GROUND_X, jnp.float32), ground], axis=1)
    ends = jnp.stack([points[:-1], points[1:]], axis=1)
    along = ends[:, 1] - ends[:, 0]
    length = jnp.linalg.norm(along, axis=1)
    above = _cross(along[:, None], legs - ends[:, None, 0]) / length[:, None]
    sides = jnp.roll(legs, -1, axis=2) - legs
    outwards = -_cross(sides[..., None, :], ends[:, None] - legs[..., None, :])
    outwards = outwards / np.tile(2 * LEG_HALF_SIZE, 2)[:, None]
    apart = jnp.maximum(jnp.min(above, axis=-1), jnp.min(outwards, -1).max(-1))
    return apart < SKIN


def report_contacts(
    before: jax.Array, after: jax.Array, touching: jax.Array
) -> jax.Array:
    """Whether each leg counts as touching the ground; bool [2].

    Gymnasium hears of contacts that begin and end. One that ends clears a leg's mark
    even if the leg, sliding from one stretch to the next, has another; none sets it
    again until a new one begins.

    Args:
      before: the contacts of the step before, as `leg_contacts` gives; [2, 10].
      after: those of this step; [2, 10].
      touching: what was reported the step before; [2].
    """
    begun = jnp.any(after & ~before, axis=1)
    ended = jnp.any(before & ~after, axis=1)
    return (touching | begun) & ~ended


def clearance(points: jax.Array, ground: jax.Array) -> jax.Array:
    """Distance in m of points [..., 2] from the line of the ground beneath them."""
    left, slope = _stretch(points[..., 0], ground)
    height = points[..., 1] - left[..., 1] - slope * (points[..., 0] - left[..., 0])
    return height / jnp.sqrt(1 + slope**2)


def to_world(position: jax.Array, points: np.ndarray) -> jax.Array:
    """Points [n, 2] of the hull, from its origin, in the world; m, [n, 2]."""
    return position[:2] + rotate(points - HULL_CENTER, position[2])


def leg_points(position: jax.Array, points: np.ndarray) -> jax.Array:
    """Points [2, n, 2] of the legs, from their joints, in the world; m, [2, n, 2]."""
    origin = to_world(position, np.zeros((1, 2)))[0]
    angles = position[2] + position[3:]
    return origin + jnp.stack(
        [rotate(p, a) for p, a in zip(points, angles, strict=True)]
    )


def rotate(points: jax.Array, angle: jax.Array) -> jax.Array:
    """Points [..., 2] turned counter-clockwise by `angle`."""
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    x, z = points[..., 0], points[..., 1]
    return jnp.stack([cos * x - sin * z, sin * x + cos * z], axis=-1)


def simulate(
    parameters: LunarLanderParameters,
    motion: Motion,
    ground: jax.Array,
    force: jax.Array,
) -> Motion:
    """One step of MJX.

    Args:
      parameters: of one task.
      motion: before the step.
      ground: heights in m at `GROUND_X`; [11].
      force: on the hull's center along x and z in N, and torque in N m; [3].
    """
    model = _task_model(parameters, motion.position, ground)
    data = mjx.make_data(model)
    data = data.replace(
        qpos=motion.position,
        qvel=motion.velocity,
        qfrc_applied=jnp.append(force, jnp.zeros((2,))),
    )
    data = mjx.fwd_position(model, data)
    data = mjx.fwd_velocity(model, data)
    data = mjx.fwd_actuation(model, data)
    data = mjx.fwd_acceleration(model, data)
    data = mjx.euler(model, _solve(model, data))
    return Motion(_push_out(data.qpos, ground), data.qvel)


def _solve(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    """Solves for the accelerations that Box2D's constraints leave.

    They are of speeds, reached by the end of the step: a motor turns at its own, which
    makes it a friction that holds a joint at that speed; a limit stops a leg; a foot
    stops on the ground and slides along it. MJX's contacts, being convex, would have a
    foot that slides rise by its friction coefficient times its speed. The rows of a
    contact are therefore asked for a speed that is as much lower. The speed that is
    taken for it is that without friction, which makes a foot sink, by less than 0.1 mm
    in a step, and never rise.
    """
    rows = data._impl.efc_J
    before = rows @ data.qvel
    motors = -LEG_SPEED * jnp.asarray(LEG_SIDES, jnp.float32)
    # A limit that is passed by more than its slack is taken back at a finite speed.
    excess = jnp.maximum(-data._impl.efc_pos[2:4] - LIMIT_SLACK, 0.0)
    sliding = _sliding(before + TIME_STEP * rows @ data.qacc_smooth)
    target = jnp.concatenate(
        [motors, CORRECTION / TIME_STEP * excess, -jnp.repeat(sliding, 4)]
    )
    reference = (target - before) / TIME_STEP
    return mjx.solve(model, data.tree_replace({"_impl.efc_aref": reference}))


def _sliding(speeds: jax.Array) -> jax.Array:
    """Friction times the speed along the ground of each foot's corner; [20] to [4].

    A contact has four rows: up the normal plus and minus friction times a direction
    across it, of which one is along the ground and one out of the plane.
    """
    along, against = jnp.moveaxis(speeds[4:].reshape(4, 2, 2), -1, 0)
    return jnp.sum(jnp.abs(along - against), axis=-1) / 2


def _push_out(position: jax.Array, ground: jax.Array) -> jax.Array:
    """Takes back most of what feet sank in by, without giving them any speed.

    As in Box2D, a fifth of what is more than the slack; which of the bodies gives way
    goes by their inertia, which makes it the leg that swings.
    """
    inertia = np.array([TOTAL_MASS, TOTAL_MASS, HULL_INERTIA])
    leg_inertia = LEG_INERTIA + LEG_MASS * (LEG_AWAY**2 + LEG_DOWN**2)
    inverse = 1.0 / np.append(inertia, [leg_inertia] * 2)
    for leg in range(2):
        feet = leg_points(position, FEET)[leg]
        gaps = clearance(feet, ground) - SKIN
        lowest = jnp.argmin(gaps)
        foot = feet[lowest]
        _, slope = _stretch(foot[0], ground)
        normal = jnp.stack([-slope, jnp.ones_like(slope)]) / jnp.sqrt(1 + slope**2)
        joint = to_world(position, np.zeros((1, 2)))[0]
        turn = _cross(foot - position[:2], normal)
        swing = jnp.zeros((2,)).at[leg].set(_cross(foot - joint, normal))
        row = jnp.concatenate([normal, turn[None], swing])
        depth = jnp.maximum(-gaps[lowest] - SLACK, 0.0)
        step = CORRECTION * depth / jnp.sum(row**2 * inverse)
        position = position + step * row * inverse
    return position


def _task_model(
    parameters: LunarLanderParameters, position: jax.Array, ground: jax.Array
) -> mjx.Model:
    """The model of a task, with planes laid beneath the feet of a lander."""
    model = _base_model()
    ratio = parameters.hull_mass / HULL_MASS
    feet = leg_points(position, FEET).reshape(-1, 2)
    left, slope = _stretch(feet[:, 0], ground)
    zeros = jnp.zeros_like(slope)
    tilt = -jnp.arctan(slope) / 2
    planes = jnp.stack([left[:, 0], zeros, left[:, 1]], axis=1)
    turns = jnp.stack([jnp.cos(tilt), zeros, jnp.sin(tilt), zeros], axis=1)
    weight_ratio = ratio * parameters.gravity / STANDARD_GRAVITY
    return model.tree_replace(
        {
            "opt.gravity": jnp.array([0.0, 0.0, -1.0]) * parameters.gravity,
            "body_mass": model.body_mass * ratio,
            "body_inertia": model.body_inertia * ratio,
            "body_invweight0": model.body_invweight0 / ratio,
            "dof_invweight0": model.dof_invweight0 / ratio,
            "dof_frictionloss": model.dof_frictionloss * weight_ratio,
            "geom_pos": model.geom_pos.at[_PLANES].set(planes),
            "geom_quat": model.geom_quat.at[_PLANES].set(turns),
        }
    )


@functools.cache
def _base_model() -> mjx.Model:
    # Made once, maybe while a program is traced, of which it must not become a part.
    with jax.ensure_compile_time_eval():
        return mjx.put_model(mujoco.MjModel.from_xml_string(_xml()))


def _xml() -> str:
    """The lander with Box2D's masses; the planes are geoms 0 to 3, beneath the feet."""

    def body_text(leg):
        x, z = LEGS[leg].mean(axis=0)
        low, high = sorted(LEG_SIDES[leg] * np.array(LEG_RANGE))
        feet = "".join(
            f'<geom name="foot{leg}{corner}" type="sphere" size="{SKIN}" '
            f'pos="{foot[0]} 0 {foot[1]}"/>'
            for corner, foot in enumerate(FEET[leg])
        )
        return f"""
        <body pos="0 0 {-HULL_CENTER[1]}">
          <inertial pos="{x} 0 {z}" mass="{LEG_MASS}"
            diaginertia="{LEG_INERTIA} {LEG_INERTIA} {LEG_INERTIA}"/>
          <joint type="hinge" axis="0 -1 0" range="{low} {high}" limited="true"
            frictionloss="{LEG_TORQUE}"/>
          {feet}
        </body>"""

    feet = [f"{leg}{corner}" for leg in range(2) for corner in range(2)]
    planes = "".join(
        f'<geom name="plane{foot}" type="plane" size="1 1 1"/>' for foot in feet
    )
    pairs = "".join(f'<pair geom1="plane{foot}" geom2="foot{foot}"/>' for foot in feet)
    return f"""
    <mujoco>
      <compiler angle="radian"/>
      <option timestep="{TIME_STEP}" iterations="{_SOLVER_ITERATIONS}"
        ls_iterations="{_SEARCH_ITERATIONS}">
        <flag warmstart="disable" eulerdamp="disable"/>
      </option>
      <default>
        <joint solreflimit="{_SOLREF}" solimplimit="{_SOLIMP}"
          solreffriction="{_SOLREF}" solimpfriction="{_SOLIMP}"/>
        <geom contype="0" conaffinity="0"/>
        <pair condim="3" solref="{_SOLREF}" solimp="{_SOLIMP}"
          friction="{_FRICTION} {_FRICTION} 0 0 0"/>
      </default>
      <worldbody>
        {planes}
        <body>
          <inertial pos="0 0 0" mass="{HULL_MASS}"
            diaginertia="{HULL_INERTIA} {HULL_INERTIA} {HULL_INERTIA}"/>
          <joint type="slide" axis="1 0 0"/>
          <joint type="slide" axis="0 0 1"/>
          <joint type="hinge" axis="0 -1 0"/>
          {body_text(0)}
          {body_text(1)}
        </body>
      </worldbody>
      <contact>{pairs}</contact>
    </mujoco>"""


_PLANES = slice(0, 4)
_FRICTION = (0.1 * 0.2) ** 0.5  # Box2D's mean of the ground's and the legs'
_SOLREF = f"{-1 / TIME_STEP**2} {-1 / TIME_STEP}"  # replaced in `_solve`
_SOLIMP = "0.9999 0.9999 0.001 0.5 2"
# With half as many steps of line search most landings stop dead in their tracks; more
# of either change no speed by 1e-4.
_SOLVER_ITERATIONS = 10
_SEARCH_ITERATIONS = 16


def _stretch(x: jax.Array, ground: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Left end, [..., 2], and slope, [...], of the stretch of ground at x [...]."""
    width = GROUND_X[1]
    index = jnp.clip(jnp.floor(x / width).astype(jnp.int32), 0, len(GROUND_X) - 2)
    left = jnp.stack([index * width, ground[index]], axis=-1)
    return left, (ground[index + 1] - ground[index]) / width


def _is_slow(velocity: jax.Array) -> jax.Array:
    """Whether Box2D would count the lander as at rest; bool."""
    turning = jnp.stack(
        [velocity[2], velocity[2] + velocity[3], velocity[2] + velocity[4]]
    )
    return (jnp.hypot(velocity[0], velocity[1]) < REST_SPEED) & jnp.all(
        jnp.abs(turning) < REST_ANGULAR_SPEED
    )


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
    """The cross product in the plane, counter-clockwise; [..., 2] to [...]."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


# Where struts, which are there for the eye only, join the legs to the hull; m, [2, 2].
_HIPS = np.stack([0.45 * LEG_SIDES, np.full(2, -0.15)], axis=1)


def _flames(main: float, side: float) -> list[np.ndarray]:
    """Outlines, from the hull's origin, of the flames of the engines that burn."""
    flames = []
    if main:
        flame = np.array([[-0.2, -0.35], [0.0, -0.45 - 1.1 * main], [0.2, -0.35]])
        flames.append(flame)
    if side:
        # The right engine, which pushes to the right, burns on the left.
        out = -np.sign(side) * (0.55 + 0.7 * abs(side))
        base = -np.sign(side) * 0.5
        flames.append(np.array([[base, 0.38], [out, 0.46], [base, 0.54]]))
    return flames


def lunar_lander_v3(continuous: bool = False) -> FamilySuite:
    """One task: the parameters of Gymnasium's LunarLander-v3.

    Args:
      continuous: as in Gymnasium's `continuous=True`.
    """
    return _suite("lunar_lander_v3", _parameters(1), ("LunarLander-v3",), continuous)


def lunar_lander(split: str = "source", continuous: bool = False) -> FamilySuite:
    """Tasks that differ in gravity, mass, thrust of the engines, and wind.

    The 10 source tasks and the 50 target tasks are drawn once, from the same ranges,
    with fixed seeds. A policy sees none of the parameters: the same throttle makes one
    lander climb where another still falls, and a steady wind from either side asks for
    a lean into it.

    Args:
      split: "source" or "target".
      continuous: whether actions are continuous.
    """
    seed, num_tasks = find_split(split)
    rng = np.random.default_rng(seed)

    def log_uniform(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), num_tasks))

    gravity = rng.uniform(5.0, 12.0, num_tasks)
    ratio = log_uniform(0.6, 1.8)
    total_mass = ratio * TOTAL_MASS
    weight = total_mass * gravity
    # The main engine is drawn by what it leaves to brake with: 7.5 m/s^2 in Gymnasium.
    braking = log_uniform(5.0, 15.0)
    side_acceleration = log_uniform(1.5, 5.0)  # m/s^2; 2.4 in Gymnasium
    # Wind is drawn as a share of the weight, about the lean in rad that it asks for. It
    # blows from the left in half of the tasks.
    wind = rng.uniform(0.03, 0.13, num_tasks)
    wind = wind * rng.permutation(np.resize([1.0, -1.0], num_tasks))
    gust = rng.uniform(0.0, 0.06, num_tasks)
    turbulence = rng.uniform(0.0, 0.5, num_tasks)  # N m at Gymnasium's mass
    parameters = _parameters(
        num_tasks,
        gravity=gravity,
        hull_mass=ratio * HULL_MASS,
        main_thrust=total_mass * (gravity + braking),
        side_thrust=total_mass * side_acceleration,
        steady_wind=wind * weight,
        gust=gust * weight,
        turbulence=turbulence * ratio,
    )
    names = tuple(
        f"g={g:.1f} M={m:.1f} F={f:.0f} wind={w:+.1f}"
        for g, m, f, w in zip(
            gravity,
            total_mass,
            parameters.main_thrust,
            parameters.steady_wind,
            strict=True,
        )
    )
    return _suite("lunar_lander", parameters, names, continuous)


def _parameters(
    num_tasks: int,
    *,
    gravity=STANDARD_GRAVITY,
    hull_mass=HULL_MASS,
    main_thrust=13.0 * MAIN_LEVER / TIME_STEP,  # Gymnasium's impulse, in one step
    side_thrust=0.6 * SIDE_LEVER / TIME_STEP,
    steady_wind=0.0,
    gust=0.0,
    turbulence=0.0,
) -> LunarLanderParameters:
    def fill(value):
        return jnp.asarray(np.broadcast_to(value, (num_tasks,)), jnp.float32)

    return LunarLanderParameters(
        gravity=fill(gravity),
        hull_mass=fill(hull_mass),
        main_thrust=fill(main_thrust),
        side_thrust=fill(side_thrust),
        steady_wind=fill(steady_wind),
        gust=fill(gust),
        turbulence=fill(turbulence),
    )


def _continuous_lander(parameters: LunarLanderParameters) -> LunarLander:
    return LunarLander(parameters, continuous=True)


def _suite(name, parameters, task_names, continuous) -> FamilySuite:
    return FamilySuite(
        make_env=_continuous_lander if continuous else LunarLander,
        parameters=parameters,
        name=name,
        task_names=task_names,
        observation_size=OBSERVATION_SIZE,
        action_space=ActionSpace(size=2 if continuous else 4, discrete=not continuous),
        episode_length=EPISODE_LENGTH,
    )
