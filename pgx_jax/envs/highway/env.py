"""The highway environment: decide once a second, drive for five time steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from pgx_jax.envs.highway.drawing import draw_highway
from pgx_jax.envs.highway.traffic import drive
from pgx_jax.envs.highway.vehicle import (
    LANE_WIDTH,
    LENGTH,
    MAX_SPEED,
    Vehicles,
    advance,
    closest_lane,
    collide,
    speed_control,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TIME_STEP = 0.2  # s
FRAMES_PER_STEP = 5
EPISODE_LENGTH = 30  # steps of 1 s
TARGET_SPEEDS = (20.0, 25.0, 30.0)  # m/s, that the ego chooses from
LANE_LEFT, IDLE, LANE_RIGHT, FASTER, SLOWER = range(5)
NUM_ACTIONS = 5

EGO_SPEED = 25.0  # m/s, at first
EGO_SPACING = 1.5  # times the usual spacing
STANDSTILL_SPACING = 12.0  # m
SPACING_TIME = 1.0  # s
SPACING_PER_LANE = np.exp(-5 / 40)  # factor of the spacing, for each lane
SPACING_RANGE = (0.9, 1.1)  # factor of the spacing, drawn for each vehicle
SPEED_RANGE = (0.7, 0.8)  # of the speed limit, drawn for each vehicle
EXPONENT_RANGE = (3.5, 4.5)  # of the driver model, drawn for each vehicle
MEAN_EXPONENT = 4.0

NUM_OBSERVED = 5  # vehicles, the ego included
OBSERVATION_SIZE = NUM_OBSERVED * 5
PERCEPTION_DISTANCE = 5 * MAX_SPEED  # m
VIEW_BEHIND = 2 * LENGTH  # m

COLLISION_REWARD = -1.0
RIGHT_LANE_REWARD = 0.1
HIGH_SPEED_REWARD = 0.4
REWARDED_SPEEDS = (20.0, 30.0)  # m/s


class HighwayParameters(NamedTuple):
    """The traffic of one task, or of n tasks with a leading axis.

    Attributes:
      density: of the vehicles, relative to the usual spacing; float32.
      speed_limit: m/s; others begin at 70 to 80 percent of it, and keep to it; float32.
      politeness: of MOBIL: what the gain of others is worth to a driver; float32.
      num_lanes: int32.
      num_vehicles: beside the ego, at most the environment's `max_vehicles`; int32.
    """

    density: jax.Array
    speed_limit: jax.Array
    politeness: jax.Array
    num_lanes: jax.Array
    num_vehicles: jax.Array


class HighwayState(NamedTuple):
    """What goes on in an episode.

    Attributes:
      vehicles: of the road, the ego first; leaves [1 + max_vehicles].
      time: steps done; int32.
    """

    vehicles: Vehicles
    time: jax.Array


class Highway(Env):
    """Drive fast, to the right and without a crash: `highway-fast-v0` of highway-env.

    Once a second the ego changes the lane or the speed that it aims at, by one of
    LANE_LEFT, IDLE, LANE_RIGHT, FASTER and SLOWER (actions 0 to 4), and controllers
    steer and accelerate for five steps of 0.2 s. Others drive by IDM and MOBIL.

    The observation, float32 [25], has a row of (presence, x, y, vx, vy) for the ego and
    each of the four nearest vehicles that are less than 200 m away and not more than
    10 m behind; theirs are relative to the ego. Units are 200 m along the road, the
    width of the road across it, and 80 m/s; values are clipped to [-1, 1], and missing
    rows are zero.

    The reward is 0.4 for speed (0 at 20 m/s to 1 at 30 m/s), 0.1 for the lane aimed at
    (0 for the left one to 1 for the right one) and -1 for a crash, mapped from
    [-1, 0.5] to [0, 1], and 0 off the road. A crash terminates. The metrics are
    `crashed`, `speed` (m/s) and `success`, which is 1 on the 30th step of an episode
    without a crash.

    Differences from highway-env 1.12.1: numbers are float32; the road has no end; two
    vehicles at the very same place along the road do not see each other; and see
    `traffic._abort_change` for a chain of three that is not followed to its end.

    Args:
      parameters: of one task.
      max_vehicles: slots for vehicles beside the ego.
    """

    def __init__(self, parameters: HighwayParameters, max_vehicles: int = 20):
        self.parameters = parameters
        self.max_vehicles = max_vehicles

    def reset(self, rng: jax.Array) -> State:
        vehicles = place_vehicles(rng, self.parameters, self.max_vehicles)
        zero = jnp.zeros((), jnp.float32)
        return State(
            pipeline_state=HighwayState(vehicles, jnp.zeros((), jnp.int32)),
            obs=observe(vehicles, self.parameters.num_lanes),
            reward=zero,
            done=zero,
            metrics={"crashed": zero, "speed": vehicles.speed[0], "success": zero},
        )

    def step(self, state: State, action: jax.Array) -> State:
        vehicles, time = state.pipeline_state
        time = time + 1
        vehicles = choose_targets(vehicles, action, self.parameters.num_lanes)
        vehicles, _ = jax.lax.scan(
            lambda moving, _: (advance_traffic(moving, self.parameters), None),
            vehicles,
            None,
            FRAMES_PER_STEP,
        )
        crashed = vehicles.crashed[0]
        survived = (time >= EPISODE_LENGTH) & ~crashed
        return state.replace(
            pipeline_state=HighwayState(vehicles, time),
            obs=observe(vehicles, self.parameters.num_lanes),
            reward=reward(vehicles, self.parameters.num_lanes),
            done=crashed.astype(jnp.float32),
            metrics={
                "crashed": crashed.astype(jnp.float32),
                "speed": vehicles.speed[0],
                "success": survived.astype(jnp.float32),
            },
        )

    @property
    def dt(self) -> float:
        """Of a step, in s."""
        return FRAMES_PER_STEP * TIME_STEP

    @property
    def observation_size(self) -> int:
        return OBSERVATION_SIZE

    @property
    def action_size(self) -> int:
        """The number of discrete actions."""
        return NUM_ACTIONS

    @property
    def backend(self) -> str:
        return "jax"

    def draw(self, axes: Axes, state: State) -> None:
        """Draws one state, without leading axes, onto Matplotlib `axes`."""
        draw_highway(axes, state.pipeline_state.vehicles, self.parameters.num_lanes)


def choose_targets(
    vehicles: Vehicles, action: jax.Array, num_lanes: jax.Array
) -> Vehicles:
    """The vehicles after the ego has chosen the lane and the speed to aim at.

    A change of speed goes one up or down from the choice nearest to the present speed;
    a change of lane from the lane aimed at, unless the next is over 8 m away.
    """
    speeds = jnp.array(TARGET_SPEEDS, jnp.float32)
    top = len(TARGET_SPEEDS) - 1
    place = (vehicles.speed[0] - speeds[0]) / (speeds[-1] - speeds[0]) * top
    index = jnp.clip(jnp.round(place), 0, top).astype(jnp.int32)
    faster, slower, right, left = (
        (action == x).astype(jnp.int32) for x in (FASTER, SLOWER, LANE_RIGHT, LANE_LEFT)
    )
    change = faster - slower
    target_speed = jnp.where(
        change == 0,
        vehicles.target_speed[0],
        speeds[jnp.clip(index + change, 0, top)],
    )
    lane = jnp.clip(vehicles.target_lane[0] + right - left, 0, num_lanes - 1)
    center = LANE_WIDTH * lane.astype(jnp.float32)
    reachable = jnp.abs(vehicles.y[0] - center) <= 2 * LANE_WIDTH
    lane = jnp.where(reachable, lane, vehicles.target_lane[0])
    return vehicles._replace(
        target_lane=vehicles.target_lane.at[0].set(lane),
        target_speed=vehicles.target_speed.at[0].set(target_speed),
    )


def advance_traffic(vehicles: Vehicles, parameters: HighwayParameters) -> Vehicles:
    """One time step: all decide, then all move, then the ego's collisions are found."""
    vehicles, acceleration, steering = drive(
        vehicles, parameters.num_lanes, parameters.speed_limit, parameters.politeness
    )
    ego = speed_control(vehicles.speed[0], vehicles.target_speed[0])
    acceleration = acceleration.at[0].set(ego)
    return collide(advance(vehicles, acceleration, steering, TIME_STEP), TIME_STEP)


def observe(vehicles: Vehicles, num_lanes: jax.Array) -> jax.Array:
    """What the ego sees; float32 [25]."""
    rows = jnp.stack(
        [
            vehicles.x,
            vehicles.y,
            vehicles.speed * vehicles.cos,
            vehicles.speed * vehicles.sin,
        ],
        axis=-1,
    )
    relative = rows - rows[:1]
    ahead, aside = relative[:, 0], relative[:, 1]
    seen = vehicles.present & (ahead > -VIEW_BEHIND)
    seen = seen & (ahead**2 + aside**2 < PERCEPTION_DISTANCE**2)
    distance = jnp.where(seen.at[0].set(False), jnp.abs(ahead), jnp.inf)
    negative, nearest = jax.lax.top_k(-distance, NUM_OBSERVED - 1)
    found = jnp.isfinite(negative)[:, None]

    road = LANE_WIDTH * num_lanes.astype(jnp.float32)
    scale = jnp.stack(
        [
            jnp.full_like(road, PERCEPTION_DISTANCE),
            road,
            jnp.full_like(road, 2 * MAX_SPEED),
            jnp.full_like(road, 2 * MAX_SPEED),
        ]
    )
    values = jnp.concatenate([rows[:1], jnp.where(found, relative[nearest], 0.0)])
    presence = jnp.concatenate([jnp.ones((1, 1)), found], dtype=jnp.float32)
    values = jnp.clip(values / scale[None], -1, 1)
    return jnp.concatenate([presence, values], axis=1).reshape(-1)


def reward(vehicles: Vehicles, num_lanes: jax.Array) -> jax.Array:
    """The reward of the step that led here; float32, in [0, 1]."""
    forward = vehicles.speed[0] * vehicles.cos[0]
    low, high = REWARDED_SPEEDS
    crashed = vehicles.crashed[0].astype(jnp.float32)
    target_lane = vehicles.target_lane[0].astype(jnp.float32)
    last_lane = jnp.maximum(num_lanes - 1, 1).astype(jnp.float32)
    value = (
        COLLISION_REWARD * crashed
        + RIGHT_LANE_REWARD * target_lane / last_lane
        + HIGH_SPEED_REWARD * jnp.clip((forward - low) / (high - low), 0, 1)
    )
    span = HIGH_SPEED_REWARD + RIGHT_LANE_REWARD - COLLISION_REWARD
    center = LANE_WIDTH * closest_lane(vehicles.y[0], num_lanes).astype(jnp.float32)
    on_road = jnp.abs(vehicles.y[0] - center) <= LANE_WIDTH / 2
    return jnp.where(on_road, (value - COLLISION_REWARD) / span, 0.0)


def place_vehicles(
    key: jax.Array, parameters: HighwayParameters, max_vehicles: int
) -> Vehicles:
    """Draws the traffic that an episode begins with.

    Every vehicle is put ahead of the one before it, the ego being the rearmost, in a
    lane of its own draw; spacings grow with speed and shrink with the number of lanes.
    """
    num_vehicles = max_vehicles + 1
    lane_key, speed_key, spacing_key, exponent_key = jax.random.split(key, 4)
    shape = (num_vehicles,)
    lane = jax.random.randint(lane_key, shape, 0, parameters.num_lanes, jnp.int32)
    low, high = SPEED_RANGE
    speed = parameters.speed_limit * jax.random.uniform(
        speed_key, shape, minval=low, maxval=high
    )
    speed = speed.at[0].set(EGO_SPEED)
    low, high = SPACING_RANGE
    factor = jax.random.uniform(spacing_key, shape, minval=low, maxval=high)
    spacing = jnp.full(shape, 1 / parameters.density).at[0].set(EGO_SPACING)
    spacing = spacing * (STANDSTILL_SPACING + SPACING_TIME * speed)
    spacing = spacing * SPACING_PER_LANE ** parameters.num_lanes.astype(jnp.float32)
    x = 3 * spacing[0] + jnp.cumsum(spacing * factor)
    y = LANE_WIDTH * lane.astype(jnp.float32)
    low, high = EXPONENT_RANGE
    exponent = jax.random.uniform(exponent_key, shape, minval=low, maxval=high)
    return Vehicles(
        x=x,
        y=y,
        heading=jnp.zeros(shape, jnp.float32),
        cos=jnp.ones(shape, jnp.float32),
        sin=jnp.zeros(shape, jnp.float32),
        speed=speed,
        target_lane=lane,
        target_speed=speed,
        timer=((x + y) * np.pi) % 1.0,
        exponent=exponent.at[0].set(MEAN_EXPONENT),
        crashed=jnp.zeros(shape, bool),
        struck=jnp.zeros(shape, bool),
        impact_x=jnp.zeros(shape, jnp.float32),
        impact_y=jnp.zeros(shape, jnp.float32),
        present=jnp.arange(num_vehicles) <= parameters.num_vehicles,
    )
