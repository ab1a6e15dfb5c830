"""Fronts of policies on robots with MO-Gymnasium's rewards, beside public libraries'.

    python experiments/multi_objective.py --robots=half_cheetah \
        --output=experiments/results/multi_objective

A policy for every preference of a grid and every seed, all side by side in one program;
of each its mean returns over whole episodes of 500 steps. Hypervolume and expected
utility are those of a seed's policies. `experiments/morl_baselines.py` writes fronts of
that library, which `--others` puts beside ours.

Writes OUTPUT.json after every robot, and goes on from it; then OUTPUT.md and a plot of
the fronts, OUTPUT.png. Where no robot is left it only writes these anew.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on with the robots that are left")

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags
from matplotlib import rc_context
from matplotlib.figure import Figure

from pgx_jax import runtime
from pgx_jax.analysis.fronts import expected_utility, hypervolume, non_dominated
from pgx_jax.analysis.statistics import t_interval
from pgx_jax.appearance import figure_style, group_color
from pgx_jax.cli.common import shown_command
from pgx_jax.configs.defaults import robot_defaults
from pgx_jax.envs import PreferenceSuite, TaskSuite
from pgx_jax.envs.locomotion import mo_half_cheetah, mo_hopper
from pgx_jax.networks.actor_critic import make_actor_critic
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.files import replace_text
from pgx_jax.runs.provenance import describe, format_provenance
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, PPOConfig

EPISODE_LENGTH = 500  # steps, as in the published tables
SUITES = {"half_cheetah": mo_half_cheetah, "hopper": mo_hopper}
GRID_STEPS = {"half_cheetah": 10, "hopper": 4}  # preferences are multiples of 1 / steps


class Problem(NamedTuple):
    """What fronts are compared in.

    Attributes:
      robot: whose policies they are.
      reference: of the hypervolume, in MO-Gymnasium's units: morl-baselines' -100, and
        for a control cost of its own the largest that an episode can have.
    """

    robot: str
    reference: tuple[float, ...]


PROBLEMS = {
    "half-cheetah, 2 objectives": Problem("half_cheetah", (-100.0, -3000.0)),
    "hopper, 2 objectives": Problem("hopper", (-100.0, -100.0)),
    "hopper, 3 objectives": Problem("hopper", (-100.0, -100.0, -1500.0)),
}
# Mean and standard deviation of five runs after 3,000,000 steps: COLA (Li et al.,
# NeurIPS 2025), Table 1, whose units are those of PGMORL's environments.
PUBLISHED = {
    "half-cheetah, 2 objectives": {
        "Envelope SAC": ("5.54 ± 0.47", "2.19 ± 0.11"),
        "PGMORL": ("5.13 ± 0.06", "2.14 ± 0.03"),
        "Q-Pensieve": ("5.66 ± 0.16", "2.22 ± 0.06"),
        "CAPQL": ("5.84 ± 0.14", "2.24 ± 0.03"),
        "COLA": ("7.91 ± 0.06", "2.90 ± 0.07"),
    },
    "hopper, 2 objectives": {
        "Envelope SAC": ("20.0 ± 1.0", "4.15 ± 0.09"),
        "PGMORL": ("19.0 ± 0.7", "4.12 ± 0.07"),
        "Q-Pensieve": ("20.6 ± 0.8", "4.21 ± 0.07"),
        "CAPQL": ("16.5 ± 0.7", "3.95 ± 0.09"),
        "COLA": ("21.1 ± 0.3", "4.28 ± 0.02"),
    },
    "hopper, 3 objectives": {
        "Envelope SAC": ("32,900 ± 2,700", "3.21 ± 0.04"),
        "PGMORL": ("33,500 ± 700", "3.21 ± 0.01"),
        "Q-Pensieve": ("32,900 ± 2,000", "3.20 ± 0.04"),
        "CAPQL": ("19,200 ± 2,300", "2.70 ± 0.11"),
        "COLA": ("34,100 ± 400", "3.22 ± 0.06"),
    },
}
# On an H100, before measuring: hypervolume in millions and expected utility in
# thousands, in PGMORL's units; seconds of a robot with compilation.
PREDICTED = {
    "half-cheetah, 2 objectives": (5.0, 2.1),
    "hopper, 2 objectives": (8.0, 2.7),
    "hopper, 3 objectives": (12_000.0, 2.3),
    "seconds": {"half_cheetah": 140, "hopper": 130},
}

_ROBOTS = flags.DEFINE_list(
    "robots", list(SUITES), "Robots that are trained; none to write the page only."
)
_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Policies of every preference.")
_UPDATES = flags.DEFINE_integer("num_updates", 240, "PPO updates; an even number.")
_ENVS = flags.DEFINE_integer("num_envs", 128, "Environments of every policy.")
_EPISODES = flags.DEFINE_integer("num_episodes", 16, "Evaluated of every policy.")
_OTHERS = flags.DEFINE_list("others", [], "Files of experiments/morl_baselines.py.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Where to write, without an ending.", required=True
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    unknown = sorted({*_ROBOTS.value} - {*SUITES})
    if unknown:
        sys.exit(f"error: --robots must be of {', '.join(SUITES)}, got {unknown[0]!r}")
    runtime.configure()
    output = Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.with_name(f"{output.name}.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    for robot in _ROBOTS.value:
        if robot in found:
            continue
        about = {"command": shown_command(), **describe()}
        found[robot] = about | train_front(
            SUITES[robot](episode_length=EPISODE_LENGTH),
            make_grid(GRID_STEPS[robot], 2 if robot == "half_cheetah" else 3),
            num_seeds=_SEEDS.value,
            num_updates=_UPDATES.value,
            num_envs=_ENVS.value,
            num_episodes=_EPISODES.value,
        )
        replace_text(file, [json.dumps(found, indent=1)])
    others = [json.loads(Path(path).read_text()) for path in _OTHERS.value]
    page = write_page(found, others)
    replace_text(output.with_name(f"{output.name}.md"), [page])
    draw_fronts(found, others).savefig(
        output.with_name(f"{output.name}.png"), dpi=200, bbox_inches="tight"
    )
    print(page)


def make_grid(num_steps: int, num_objectives: int) -> np.ndarray:
    """All preferences whose weights are multiples of 1 / `num_steps`; [P, K]."""
    axes = np.indices((num_steps + 1,) * num_objectives).reshape(num_objectives, -1)
    return axes.T[axes.sum(axis=0) == num_steps][::-1] / num_steps


def train_front(
    suite: TaskSuite,
    grid: np.ndarray,
    *,
    num_seeds: int,
    num_updates: int,
    num_envs: int,
    num_episodes: int,
) -> dict[str, Any]:
    """Trains and evaluates a policy for every preference and seed, side by side.

    Returns:
      returns [seeds, P, K] and lengths [seeds, P], means over episodes, and what they
      took.
    """
    settings = robot_defaults("half_cheetah_objectives").to_dict()
    shorter = {"num_envs": num_envs, "unroll_length": 32}
    config = PPOConfig.from_dict(settings["ppo"] | shorter)
    networks = make_actor_critic(
        suite.observation_size,
        suite.action_space.size,
        suite.action_space.discrete,
        tuple(settings["network"]["hidden_sizes"]),
        activation=settings["network"]["activation"],
        num_objectives=len(suite.objective_names),
    )
    rows = PreferenceSuite.create(suite, np.tile(grid, (num_seeds, 1)))
    ppo = PPO(config, networks, num_updates)
    train_key, evaluate_key = jax.random.split(jax.random.key(0))
    began = time.perf_counter()
    state = ppo.init(rows, train_key, np.arange(rows.num_tasks))
    state, _ = jax.block_until_ready(ppo.run(rows, state, num_updates // 2))
    halfway = time.perf_counter()
    state, metrics = jax.block_until_ready(ppo.run(rows, state, num_updates // 2))
    ended = time.perf_counter()
    episodes = jax.block_until_ready(
        evaluate(
            rows,
            networks,
            state.params["policy"],
            state.observation_statistics,
            state.policy_ids,
            evaluate_key,
            num_episodes,
        )
    )
    shape = (num_seeds, len(grid))
    returns = np.asarray(episodes.episode_return).mean(axis=1)
    lengths = np.asarray(episodes.episode_length).mean(axis=1)
    of_policy = 2 * (num_updates // 2) * config.steps_per_update
    return {
        "preferences": grid.tolist(),
        "returns": returns.reshape(*shape, -1).tolist(),
        "lengths": lengths.reshape(shape).tolist(),
        "divergences": float(np.sum(metrics["divergences"])),
        "steps_per_policy": of_policy,
        "steps_per_second": of_policy * rows.num_tasks / (2 * (ended - halfway)),
        "training_seconds": ended - began,
        "seconds_without_compilation": 2 * (ended - halfway),
        "evaluation_seconds": time.perf_counter() - ended,
        "num_episodes": num_episodes,
    }


def convert(
    problem: str, returns: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns of a problem in MO-Gymnasium's units and in PGMORL's.

    PGMORL's, as the published tables define them, where a is the action and v, h are
    forward velocity and height above the start: half-cheetah (v + 1, 5 - |a|^2); hopper
    (1.5 v, 12 h), both plus 1 - 0.0002 |a|^2, or (1.5 v + 1, 12 h + 1, 5 - |a|^2).

    Args:
      problem: of `PROBLEMS`.
      returns: of `mo_half_cheetah` or `mo_hopper(3)`; [..., 2 or 3].
      lengths: of the episodes; [...].
    """
    if PROBLEMS[problem].robot == "half_cheetah":
        return returns, returns + lengths[..., None] * np.array([1.0, 5.0])
    velocity, height, cost = np.moveaxis(returns - lengths[..., None], -1, 0)
    if problem == "hopper, 3 objectives":
        theirs = (1.5 * velocity + lengths, 1.2 * height + lengths, cost + 5 * lengths)
        return returns, np.stack(theirs, axis=-1)
    bonus = lengths + 2e-4 * cost
    theirs = np.stack([1.5 * velocity + bonus, 1.2 * height + bonus], axis=-1)
    return returns[..., :2] + 1e-3 * cost[..., None], theirs


def measure(problem: str, entry: Mapping[str, Any]) -> dict[str, list[float]]:
    """Hypervolume and expected utility of every seed, in both units."""
    returns, lengths = (np.asarray(entry[x]) for x in ("returns", "lengths"))
    found: dict[str, list[float]] = {}
    fronts = convert(problem, returns, lengths)
    references = (PROBLEMS[problem].reference, np.zeros(fronts[1].shape[-1]))
    for units, front, reference in zip(
        ("ours", "theirs"), fronts, references, strict=True
    ):
        found[f"{units} volume"] = [hypervolume(x, reference) / 1e6 for x in front]
        found[f"{units} utility"] = [expected_utility(x) / 1e3 for x in front]
    found["size"] = [float(non_dominated(x).sum()) for x in fronts[1]]
    return found


def summarize(values: Sequence[float]) -> str:
    """The mean, with its 95% interval where there is more than one."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return _digits(mean)
    low, high = t_interval(values)
    return f"{_digits(mean)} [{_digits(low)}, {_digits(high)}]"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def write_page(found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """A table for each problem: ours, morl-baselines' runs, published figures."""
    header = [
        "method",
        "hypervolume, 10^6",
        "expected utility, 10^3",
        "hypervolume, 10^6, MO-Gymnasium's",
        "expected utility, 10^3, MO-Gymnasium's",
        "policies",
        "steps of a front",
        "seconds of a front",
    ]
    parts = []
    for problem, (robot, reference) in PROBLEMS.items():
        rows = [_row(*named, problem) for named in _fronts(problem, found, others)]
        rows += [
            [f"{name}, published", *values, "", "", "", "3,000,000", ""]
            for name, values in PUBLISHED[problem].items()
        ]
        volume, utility = PREDICTED[problem]
        parts += [
            f"## {problem.capitalize()}",
            "",
            Table(header, rows).to_markdown(),
            "",
            "Reference of the hypervolume: the origin in PGMORL's units; "
            f"{reference} in MO-Gymnasium's. Predicted before measuring, for pgx_jax: "
            f"hypervolume {_digits(volume)}, expected utility {utility}, "
            f"{PREDICTED['seconds'][robot]} s with compilation.",
            "",
        ]
    for robot, entry in found.items():
        parts += [
            f"pgx_jax on {robot}: {format_provenance(entry)} "
            f"{len(entry['returns'])} seeds of {len(entry['preferences'])} preferences "
            f"side by side trained for {entry['training_seconds']:.0f} s, "
            f"{entry['seconds_without_compilation'] / 2:.0f} s of it the second half, "
            f"at {entry['steps_per_second']:,.0f} steps a second; "
            f"{entry['evaluation_seconds']:.0f} s of evaluation, "
            f"{entry['num_episodes']} episodes a policy.",
            "",
        ]
    for entry in others:
        parts += [f"{entry['method']} on {entry['robot']}: {entry['about']}", ""]
    return "\n".join(parts)


def _fronts(
    problem: str, found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and fronts of a problem; morl-baselines' are of two objectives."""
    robot, reference = PROBLEMS[problem]
    ours = [("pgx_jax", found[robot])] if robot in found else []
    return ours + [
        (f"{x['method']}, morl-baselines", x)
        for x in others
        if x["robot"] == robot and len(reference) == 2
    ]


def _row(name: str, entry: Mapping[str, Any], problem: str) -> list[str]:
    values = measure(problem, entry)
    columns = ("theirs volume", "theirs utility", "ours volume", "ours utility")
    num_seeds, num_policies = np.shape(entry["lengths"])
    steps = entry.get("steps", num_policies * entry.get("steps_per_policy", 0))
    return [
        name,
        *[summarize(values[x]) for x in columns],
        f"{np.mean(values['size']):.0f} of {num_policies}",
        f"{steps:,}",
        f"{entry['training_seconds'] / num_seeds:,.0f}",
    ]


def draw_fronts(
    found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> Figure:
    """The policies of the problems of two objectives, in PGMORL's units."""
    shown = [x for x in PROBLEMS if len(PROBLEMS[x].reference) == 2]
    second = {"half_cheetah": "energy saved", "hopper": "height"}
    with rc_context(figure_style()):
        figure = Figure(figsize=(3.4 * len(shown), 3.0), layout="constrained")
        for i, problem in enumerate(shown):
            axes = figure.add_subplot(1, len(shown), i + 1)
            for number, (name, entry) in enumerate(_fronts(problem, found, others)):
                values = (np.asarray(entry[x]) for x in ("returns", "lengths"))
                points = convert(problem, *values)[1].reshape(-1, 2)
                axes.scatter(*points.T, s=8, color=group_color(number), label=name)
            axes.set_title(problem.capitalize())
            axes.set_xlabel("return, velocity")
            axes.set_ylabel(f"return, {second[PROBLEMS[problem].robot]}")
            if axes.collections:
                axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    app.run(main)
