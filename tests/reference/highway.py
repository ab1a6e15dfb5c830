"""Regenerates tests/envs/fixtures/highway.npz from the public highway-env package.

    python -m venv /tmp/highway
    /tmp/highway/bin/pip install highway-env==1.12.1
    /tmp/highway/bin/python tests/reference/highway.py

Takes about fifteen minutes on one CPU core. Two kinds of reference are kept:

- scenes: the state of every vehicle, the ego's action, what every driver decides in the
  first time step, and the state, observation, reward and termination one second later;
- episodes: the first states of episodes of highway-fast-v0, and the returns and crashes
  of simple policies in them.
"""

import argparse
import copy
import pathlib

import gymnasium
import numpy as np
from highway_env.envs.highway_env import HighwayEnvFast
from highway_env.road.road import Road, RoadNetwork
from highway_env.vehicle.behavior import IDMVehicle

FIXTURE = pathlib.Path(__file__).parents[1] / "envs" / "fixtures" / "highway.npz"
NUM_SCENES = 240
NUM_EPISODES = 300
SLOTS = 21
LANE_LEFT, IDLE, LANE_RIGHT, FASTER, SLOWER = range(5)


class LimitedHighway(HighwayEnvFast):
    """highway-fast-v0 with the speed limit as a setting."""

    def _create_road(self):
        self.road = Road(
            RoadNetwork.straight_road_network(
                self.config["lanes_count"], speed_limit=self.config["speed_limit"]
            ),
            np_random=self.np_random,
        )


def draw_settings(rng: np.random.Generator) -> dict:
    """What differs between scenes."""
    return {
        "density": rng.uniform(0.7, 2.0),
        "speed_limit": rng.choice([20.0, 25.0, 30.0, 40.0]),
        "politeness": rng.choice([0.0, 0.3, 1.0]),
        "num_lanes": rng.integers(2, 6),
        "num_vehicles": rng.integers(12, 21),
    }


def round_to_float32(env: LimitedHighway) -> None:
    """Lets both implementations begin a scene from the very same numbers."""
    for vehicle in env.road.vehicles:
        vehicle.position = vehicle.position.astype(np.float32).astype(np.float64)
        # Not the timer, whose sums of 0.2 s decide to the last bit when it runs out.
        for name in ("heading", "speed", "target_speed", "DELTA"):
            if hasattr(vehicle, name):
                setattr(vehicle, name, float(np.float32(getattr(vehicle, name))))
        if vehicle.impact is not None:
            vehicle.impact = vehicle.impact.astype(np.float32).astype(np.float64)


def vehicle_row(vehicle) -> list[float]:
    impact = np.zeros(2) if vehicle.impact is None else vehicle.impact
    return [
        *vehicle.position,
        vehicle.heading,
        vehicle.speed,
        vehicle.target_lane_index[2],
        vehicle.target_speed,
        getattr(vehicle, "timer", 0.0),
        getattr(vehicle, "DELTA", 4.0),
        vehicle.crashed,
        vehicle.impact is not None,
        *impact,
    ]


def table(env: LimitedHighway) -> np.ndarray:
    """[SLOTS, 13]: the columns of `vehicle_row`, then whether the slot is filled."""
    rows = np.zeros((SLOTS, 13), np.float32)
    for row, vehicle in zip(rows, env.road.vehicles, strict=False):
        row[:12] = vehicle_row(vehicle)
        row[12] = 1
    return rows


def first_decisions(env: LimitedHighway, action: int) -> np.ndarray:
    """[SLOTS, 3]: acceleration, steering and target lane in the first time step."""
    env = copy.deepcopy(env)
    env.action_type.act(action)
    env.road.act()
    rows = np.zeros((SLOTS, 3), np.float32)
    for row, vehicle in zip(rows, env.road.vehicles, strict=False):
        row[0] = vehicle.action["acceleration"]
        row[1] = vehicle.action["steering"]
        row[2] = vehicle.target_lane_index[2]
    return rows


def make_scenes() -> dict[str, np.ndarray]:
    """Scenes from the course of episodes under policies drawn at random."""
    rng = np.random.default_rng(0)
    scenes = []
    while len(scenes) < NUM_SCENES:
        settings = draw_settings(rng)
        IDMVehicle.POLITENESS = settings["politeness"]
        env = LimitedHighway(
            {
                "lanes_count": settings["num_lanes"],
                "vehicles_count": settings["num_vehicles"],
                "vehicles_density": settings["density"],
                "speed_limit": settings["speed_limit"],
            }
        )
        env.reset(seed=int(rng.integers(2**31)))
        # A third of the episodes do little, so as to last; the others provoke crashes.
        weights = [[1, 4, 1, 1, 2], [1, 1, 1, 3, 1], [1, 1, 1, 1, 1]][len(scenes) % 3]
        terminated = truncated = False
        while not (terminated or truncated):
            action = int(rng.choice(5, p=np.array(weights) / sum(weights)))
            struck = env.vehicle.impact is not None
            round_to_float32(env)
            before, decisions = table(env), first_decisions(env, action)
            observation, reward, terminated, truncated, _ = env.step(action)
            # Collisions are few: all are kept.
            if terminated or struck or rng.uniform() < 0.12:
                scenes.append(
                    {
                        **settings,
                        "action": action,
                        "before": before,
                        "decisions": decisions,
                        "after": table(env),
                        "observation": observation.reshape(-1).astype(np.float32),
                        "reward": reward,
                        "terminated": terminated,
                    }
                )
    scenes = scenes[:NUM_SCENES]
    IDMVehicle.POLITENESS = 0.0
    return {
        f"scene_{name}": np.array(
            [scene[name] for scene in scenes], np.asarray(scenes[0][name]).dtype
        )
        for name in scenes[0]
    }


def faster_then_idle(step, observation, rng):
    return FASTER if step == 0 else IDLE


def careful(step, observation, rng):
    """Brakes behind a vehicle within 30 m that is in the same lane, else goes on."""
    rows = observation.reshape(5, 5)
    close = (rows[1:, 0] > 0) & (rows[1:, 1] > 0) & (rows[1:, 1] < 0.15)
    close &= np.abs(rows[1:, 2]) < 0.15
    return SLOWER if close.any() else FASTER


POLICIES = {
    "idle": lambda step, observation, rng: IDLE,
    "slower": lambda step, observation, rng: SLOWER,
    "faster": faster_then_idle,
    "random": lambda step, observation, rng: int(rng.integers(5)),
    "careful": careful,
}


def run_policies() -> dict[str, np.ndarray]:
    """Return, length and crash of every episode; float32 [NUM_EPISODES, 3].

    With the vehicles that each begins with, which are the same for every policy.
    """
    env = gymnasium.make("highway-fast-v0")
    starts = []
    for episode in range(NUM_EPISODES):
        env.reset(seed=episode)
        starts.append(table(env.unwrapped))
    results = {"episodes_start": np.array(starts)}
    for name, policy in POLICIES.items():
        rng = np.random.default_rng(0)
        rows = []
        for episode in range(NUM_EPISODES):
            observation, _ = env.reset(seed=episode)
            total, step, done = 0.0, 0, False
            while not done:
                action = policy(step, observation, rng)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, step, done = (
                    total + float(reward),
                    step + 1,
                    terminated or truncated,
                )
            rows.append([total, step, terminated])
        results[f"episodes_{name}"] = np.array(rows, np.float32)
        mean, length, crashed = results[f"episodes_{name}"].mean(axis=0)
        print(f"{name}: return {mean:.2f}, length {length:.1f}, crashed {crashed:.2f}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes-only", action="store_true", help="keep the episodes")
    scenes = make_scenes()
    if parser.parse_args().scenes_only:
        with np.load(FIXTURE) as old:
            episodes = {k: old[k] for k in old.files if k.startswith("episodes_")}
    else:
        episodes = run_policies()
    np.savez_compressed(FIXTURE, **scenes, **episodes)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
