"""Writes what Gymnasium's LunarLander-v3 does to tests/envs/fixtures/lunar_lander.npz.

Gymnasium's lander needs Box2D, which the tests do without:

    python -m venv /tmp/box2d
    /tmp/box2d/bin/pip install "gymnasium[box2d]"
    /tmp/box2d/bin/python tests/reference/lunar_lander.py

It also prints how well Gymnasium's own heuristic controller does there. Written with
Gymnasium 1.4.0 and Box2D 2.3.10:

    discrete: mean return 252.8 over 100 resets, landed 0.95
    continuous: mean return 280.3 over 100 resets, landed 0.99
"""

import pathlib

import lunar_lander_policies as policies
import numpy as np
from gymnasium.envs.box2d.lunar_lander import LunarLander, heuristic
from gymnasium.utils import seeding

PATH = pathlib.Path(__file__).parents[1] / "envs" / "fixtures" / "lunar_lander.npz"
FLIGHT_STEPS = 50
NUM_RESETS = 100
NUM_EPISODES = 400  # of every policy


class NoNoise:
    """A source of random numbers that leaves dispersion out."""

    def uniform(self, low, high):
        return (low + high) / 2


def flights() -> dict[str, np.ndarray]:
    """50 steps from 2 steps after a reset, dispersion off; arrays [flight, time, ...].

    `flight_start` and `flight_states` hold x, z, angle, their rates, and both legs'
    angles and rates; x and z are of the hull's origin, their rates of its center of
    mass. Commands are throttles of the main and the side engines.
    """
    rng = np.random.default_rng(0)
    wait, left, main, right = range(4)
    sequences = [
        [wait] * 50,
        [main] * 50,
        [left] * 50,
        ([main] * 5 + [right] * 5) * 5,
        ([right] * 3 + [main] * 2 + [left] * 4 + [wait]) * 5,
        rng.integers(0, 4, 50),
        rng.uniform(-1, 1, (50, 2)),
        np.stack([np.linspace(-0.5, 1.0, 50), np.linspace(-1.0, 1.0, 50)], axis=1),
        np.tile([0.6, -0.8], (50, 1)),
        [wait] * 50,
        ([main] * 5 + [right] * 5) * 5,
    ]
    physics = [{}] * 9 + [{"enable_wind": True}] * 2
    physics[5] = {"gravity": -6.0}
    # Pushed upwards at first, so that none of them comes down within a second.
    seeds = (seed for seed in range(1000) if draws_of(seed)[1][1] > 0.2)
    rows = []
    for seed, actions, options in zip(seeds, sequences, physics, strict=False):
        continuous = np.ndim(actions) == 2
        env = LunarLander(continuous=continuous, **options)
        env.reset(seed=seed)
        env.np_random = NoNoise()
        env.step(np.zeros(2) if continuous else 0)
        start, phase = state_of(env), wind_phase(env)
        states, observations = [], []
        for action in actions:
            action = np.float32(action) if continuous else int(action)
            observation, _, ended, _, _ = env.step(action)
            assert not env.game_over and not observation[6:].any()
            states.append(state_of(env))
            observations.append(observation)
        # Discrete actions stand in the first column.
        padded = np.zeros((FLIGHT_STEPS, 2), np.float32)
        padded[:, : 2 if continuous else 1] = np.reshape(actions, (FLIGHT_STEPS, -1))
        rows.append(
            {
                "flight_continuous": continuous,
                "flight_gravity": -env.gravity,
                "flight_wind": env.enable_wind,
                "flight_phase": phase,
                "flight_actions": padded,
                "flight_start": start,
                "flight_states": np.float32(states),
                "flight_observations": observations,
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def draws_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights in m [12], and the push as a share of its limit [2], of a reset."""
    rng, _ = seeding.np_random(seed)
    return rng.uniform(0, 20 / 3, 12), rng.uniform(-1, 1, 2)


def state_of(env: LunarLander) -> np.ndarray:
    hull, legs = env.lander, env.legs
    return np.array(
        [
            *hull.position,
            hull.angle,
            *hull.linearVelocity,
            hull.angularVelocity,
            *(leg.joint.angle for leg in legs),
            *(leg.joint.speed for leg in legs),
        ]
    )


def wind_phase(env: LunarLander) -> tuple[int, int]:
    return (int(env.wind_idx), int(env.torque_idx)) if env.enable_wind else (0, 0)


def episodes(continuous: bool) -> dict[str, np.ndarray]:
    """Every fifth step of the heuristic's first 12 episodes, and their last ones.

    Rows: the observation before the step, the action, the observation after it, the
    reward, and whether it ended the episode.
    """
    env = LunarLander(continuous=continuous)
    rows, returns, landed = [], [], []
    for seed in range(NUM_RESETS):
        before, _ = env.reset(seed=seed)
        total = 0.0
        for step in range(1000):
            action = heuristic(env, before)
            after, reward, ended, _, _ = env.step(action)
            total += reward
            if seed < 12 and (step % 5 == 0 or ended):
                action = np.broadcast_to(action, 2)
                rows.append([*before, *action, *after, reward, ended])
            before = after
            if ended:
                break
        returns.append(total)
        landed.append(ended and reward == 100)
    kind = "continuous" if continuous else "discrete"
    print(
        f"{kind}: mean return {np.mean(returns):.1f} over {NUM_RESETS} resets, "
        f"landed {np.mean(landed):.2f}"
    )
    # The rewards of an observation in single precision are good to 1e-5 or so.
    return {
        f"{kind}_steps": np.asarray(rows, np.float32),
        f"{kind}_return": np.asarray(np.mean(returns)),
        f"{kind}_landed": np.asarray(np.mean(landed)),
    }


def policy_figures() -> dict[str, np.ndarray]:
    """How every policy fares in its first steps of an episode.

    Rows, one a policy: means, then standard deviations over episodes, of the return,
    whether it landed, and the steps with both legs and with one leg on the ground.
    """
    rows = []
    for name in policies.NAMES:
        episodes = np.zeros((NUM_EPISODES, 4))
        for seed, figures in enumerate(episodes):
            env, rng = LunarLander(), np.random.default_rng(seed)
            observation, _ = env.reset(seed=seed)
            for _ in range(policies.MAX_STEPS):
                wanted = heuristic(env, observation)
                action = policies.choose(name, wanted, observation, rng)
                observation, reward, ended, _, _ = env.step(action)
                legs = observation[6:].sum()
                figures += [reward, ended and reward == 100, legs == 2, legs == 1]
                if ended:
                    break
        rows.append([*episodes.mean(axis=0), *episodes.std(axis=0)])
        print(f"{name}: {np.round(rows[-1], 2)}")
    return {"policies": np.array(rows)}


def push() -> dict[str, np.ndarray]:
    """A lander at rest whose right engine fires for 60 steps, then rests; no noise.

    It slides over a joint of the ground, where Gymnasium loses a leg's contact. Rows:
    the state as `state_of` gives it, and whether each leg touches.
    """
    env = LunarLander()
    observation, _ = env.reset(seed=3)
    while np.abs(observation[2:6]).max() > 1e-3 or not observation[6:].all():
        observation, *_ = env.step(heuristic(env, observation))
    env.np_random = NoNoise()
    rows = [[*state_of(env), *observation[6:]]]
    for action in [3] * 60 + [0] * 20:
        observation, *_ = env.step(action)
        rows.append([*state_of(env), *observation[6:]])
    return {"push": np.asarray(rows, np.float32)}


def resets() -> dict[str, np.ndarray]:
    """The heights and the push drawn by 8 resets, and what they lead to."""
    rows = []
    for seed in range(8):
        env = LunarLander()
        env.reset(seed=seed)
        heights, push = draws_of(seed)
        ground = [polygon[0][1] for polygon in env.sky_polys]
        ground.append(env.sky_polys[-1][1][1])
        rows.append([*heights, *push, *ground, *state_of(env)])
    return {"resets": np.asarray(rows, np.float32)}


def masses() -> dict[str, np.ndarray]:
    """Mass, center along z and inertia about that center, of hull and leg."""
    env = LunarLander()
    env.reset(seed=0)
    rows = []
    for body in (env.lander, env.legs[0]):
        center = body.localCenter[1]
        rows.append([body.mass, center, body.inertia - body.mass * center**2])
    return {"masses": np.array(rows)}


def main():
    arrays = flights() | episodes(False) | episodes(True) | resets() | masses()
    arrays |= policy_figures() | push()
    PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(PATH, **arrays)
    print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
