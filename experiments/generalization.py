"""Trace of the policy loss's Hessian, a PAC-Bayes bound, and the gap to unseen tasks.

    python experiments/generalization.py --output=experiments/results/generalization

Ten CartPoles are learned from, fifty are unseen (paper, Figure 2). A policy for all is
trained by the suite's config and looked at on the way; then several groupings of the
tasks are trained from it, side by side. The loss of a policy on a task is 1 - J / 500,
of episodes with sampled actions, in [0, 1]. Near the policy its surrogate is
- L / 500 times the mean of A r, for episodes of L steps on average, advantages A in
units of reward and ratios r: PPO's loss before clipping. Of it are

* the trace of the Hessian, by Hutch++, for the mean over the policy's tasks;
* the distance of the parameters from those before training;
* the leading term sqrt(trace distance^2 / n) of `pac_bayes_bound`, with n tasks, which
  unseen tasks are like, and with n transitions, as if these were independent.

The gap is the loss on unseen tasks, each under the policy of the grouping that does
best there in other episodes, less that on the tasks learned from.

Writes OUTPUT.json after every seed, and goes on from it; then OUTPUT.md, OUTPUT.png
and OUTPUT.pdf.
"""

from __future__ import annotations

from pgx_jax.runs.interruption import end_on_signals

if __name__ == "__main__":  # before the imports, which take seconds
    end_on_signals("the same command goes on with the seeds that are left")

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from matplotlib import rc_context
from matplotlib.figure import Figure

import pgx_jax as pge
from pgx_jax import runtime
from pgx_jax.analysis.generalization import pac_bayes_bound
from pgx_jax.analysis.hessian import exact_hessian_trace, hessian_trace
from pgx_jax.analysis.statistics import rank_correlation
from pgx_jax.appearance import GROUP_COLORS, figure_style
from pgx_jax.cli.common import shown_command
from pgx_jax.cli.config_files import load_config
from pgx_jax.envs import TaskSuite, make_suite
from pgx_jax.estimation.parameters import global_norm
from pgx_jax.grouping.candidates import candidate_partitions
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.pipeline.checks import make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.reporting.figures import save_figure
from pgx_jax.reporting.tables import Table
from pgx_jax.runs.files import replace_text
from pgx_jax.runs.provenance import describe, format_provenance
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.types import PyTree, Transitions

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "Where to write, without an ending.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds.")
flags.DEFINE_integer("num_transitions", 2048, "Of a task.", lower_bound=128)
flags.DEFINE_integer("num_episodes", 8, "Of a task and policy.", lower_bound=2)
flags.DEFINE_integer("num_products", 30, "Of Hutch++.", lower_bound=6)

SUITE, BEST_RETURN = "cartpole", 500.0
UPDATES = (0, 1, 2, 4, 7, 10, 15, 20)  # of training at which the policy is looked at
GROUP_UPDATES = 20
# Written down before measuring.
PREDICTED = {
    "trace along training": "falls by half at least from its peak to the end, since "
    "advantages do",
    "leading term, n tasks": "above 1, which says nothing, at the last checkpoint",
    "leading term, n transitions": "0.05 to 1, and above the gap at every checkpoint "
    "after the first",
    "gap along training": "below 0.1 in size at every checkpoint",
    "rank correlation of the leading term with the gap along training": 0.5,
    "groupings": "single tasks have the largest gap and the largest leading term",
    "Hutch++": "less error than Hutchinson with as many products",
}


class Measured(NamedTuple):
    """Of one grouping, means over tasks of what their policies have.

    Attributes:
      trace: of the Hessian.
      trace_error: its standard error, the root mean square over policies.
      distance: of the parameters from those before training.
      source_loss: on the tasks learned from.
      unseen_loss: on unseen tasks.
      leading: of the bound, n the tasks of the policy.
      leading_transitions: the same, n their transitions.
      bound: of the loss on unseen tasks.
    """

    trace: float
    trace_error: float
    distance: float
    source_loss: float
    unseen_loss: float
    leading: float
    leading_transitions: float
    bound: float

    @property
    def gap(self) -> float:
        return self.unseen_loss - self.source_loss


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
      num_transitions: of a task.
      num_episodes: of a task and policy.
      num_products: of Hutch++.
    """

    num_transitions: int
    num_episodes: int
    num_products: int


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    runtime.configure()
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.with_name(f"{output.name}.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    sizes = Sizes(FLAGS.num_transitions, FLAGS.num_episodes, FLAGS.num_products)
    config = PipelineConfig.from_dict(load_config(SUITE))
    for seed in FLAGS.seeds:
        if seed not in found.setdefault("seeds", {}):
            about = {"command": shown_command(), **describe(), **sizes._asdict()}
            found |= about | {"predicted": PREDICTED}
            found["seeds"][seed] = measure_seed(config, int(seed), sizes)
            replace_text(file, [json.dumps(found, indent=1)])
            print(f"seed {seed} is done", flush=True)
    page = f"{format_provenance(found)}\n\n{to_markdown(found['seeds'])}\n"
    replace_text(output.with_name(f"{output.name}.md"), [page])
    save_figure(draw(found["seeds"]), output)
    print(page)


def measure_seed(config: PipelineConfig, seed: int, sizes: Sizes) -> dict[str, Any]:
    """Along training, of groupings trained after it, and errors of estimates."""
    suite, unseen = make_suite(SUITE), make_suite(SUITE, "target")
    networks = make_networks(config, suite)
    keys = jax.random.split(jax.random.key(seed), 6)
    ppo = PPO(config.ppo, networks, UPDATES[-1])
    state = ppo.init(suite, keys[0])
    start = jax.tree.map(lambda x: np.asarray(x[0]), state.params["policy"])
    measure = functools.partial(
        measure_groupings, unseen=unseen, start=start, sizes=sizes
    )
    one = {"one policy": np.zeros(suite.num_tasks, int)}
    training: dict[int, dict[str, float]] = {}
    for done, following in zip(UPDATES, (*UPDATES[1:], None), strict=True):
        key = jax.random.fold_in(keys[1], done)
        training[done] = show(measure(ppo, suite, state, one, key)["one policy"])
        print(f"  {done} updates: {training[done]}", flush=True)
        if following is not None:
            for _ in range(following - done):
                state, _ = ppo.run(suite, state, 1)
    batch = ppo.collect_transitions(suite, state, keys[2], sizes.num_transitions)
    cosine = pge.gradient_similarity(
        networks.log_prob, jax.tree.map(lambda x: x[0], state.params["policy"]), batch
    )
    labelings = one | {
        "three by cosine": candidate_partitions(cosine.matrix, 3, 1)[0].labels,
        "three at random": pge.random_grouping(keys[3], suite.num_tasks, 3).labels,
        "single tasks": np.arange(suite.num_tasks),
    }
    rows, trainer, grouped = train_groupings(config, suite, state, labelings, keys[4])
    groupings = measure(trainer, rows, grouped, labelings, keys[5])
    return {
        "training": training,
        "groupings": {name: show(x) for name, x in groupings.items()},
        "estimates": compare_estimates(networks, state, batch, keys[2], sizes),
    }


def show(measured: Measured) -> dict[str, float]:
    """With the gap, for JSON."""
    return {**measured._asdict(), "gap": measured.gap}


def train_groupings(
    config: PipelineConfig,
    suite: TaskSuite,
    state: TrainingState,
    labelings: Mapping[str, np.ndarray],
    key: jax.Array,
) -> tuple[TaskSuite, PPO, TrainingState]:
    """Policies of all groups from one for all; rows are grouping by grouping."""
    offsets = np.cumsum([0, *(x.max() + 1 for x in labelings.values())])
    ids = [x + offset for x, offset in zip(labelings.values(), offsets, strict=False)]
    tasks = np.tile(np.arange(suite.num_tasks), len(labelings))
    rows = suite.select(tasks)
    ppo = PPO(config.ppo, make_networks(config, suite), GROUP_UPDATES)
    values = jax.tree.map(lambda x: x[tasks], state.value_statistics)
    grouped = ppo.init_from(
        rows,
        key,
        np.concatenate(ids),
        state.params,
        state.observation_statistics,
        values,
    )
    for _ in range(GROUP_UPDATES):
        grouped, _ = ppo.run(rows, grouped, 1)
    return rows, ppo, grouped


def measure_groupings(
    ppo: PPO,
    rows: TaskSuite,
    state: TrainingState,
    labelings: Mapping[str, np.ndarray],
    key: jax.Array,
    *,
    unseen: TaskSuite,
    start: PyTree,
    sizes: Sizes,
) -> dict[str, Measured]:
    """Every grouping, whose tasks are rows one after the other."""
    keys = jax.random.split(key, 4)
    ids = np.asarray(state.policy_ids)
    losses = evaluate_losses(ppo, rows, state, ids, keys[0], sizes.num_episodes)
    batch = ppo.collect_transitions(rows, state, keys[1], sizes.num_transitions)
    unseen_losses = evaluate_unseen(ppo, unseen, state, keys[2], sizes.num_episodes)
    source = losses.mean(axis=1)
    policies = [
        measure_policy(ppo, state, batch, source, start, j, keys[3], sizes)
        for j in range(int(ids.max()) + 1)
    ]
    found, first = {}, 0
    for name, labels in labelings.items():
        here = ids[first : first + len(labels)]
        of_tasks = np.array([policies[j] for j in here])
        # Policies are chosen by half of the episodes and judged by the other half.
        half = unseen_losses.shape[2] // 2
        group = np.unique(here)
        best = group[unseen_losses[group, :, :half].mean(axis=2).argmin(axis=0)]
        judged = unseen_losses[best, np.arange(len(best)), half:]
        trace, error, distance, leading, transitions, bound = of_tasks.T
        found[name] = Measured(
            trace=float(trace.mean()),
            trace_error=float(np.sqrt(np.mean(error**2))),
            distance=float(distance.mean()),
            source_loss=float(source[first : first + len(labels)].mean()),
            unseen_loss=float(judged.mean()),
            leading=float(leading.mean()),
            leading_transitions=float(transitions.mean()),
            bound=float(bound.mean()),
        )
        first += len(labels)
    return found


def evaluate_losses(
    ppo: PPO,
    suite: TaskSuite,
    state: TrainingState,
    ids: np.ndarray,
    key: jax.Array,
    num_episodes: int,
) -> np.ndarray:
    """1 - J / 500 of every row's episodes, actions sampled; [r, episodes]."""
    episodes = evaluate(
        suite,
        ppo.actor_critic,
        state.params["policy"],
        state.observation_statistics,
        ids,
        key,
        num_episodes,
        deterministic=False,
    )
    return 1.0 - np.asarray(episodes.episode_return) / BEST_RETURN


def evaluate_unseen(
    ppo: PPO, unseen: TaskSuite, state: TrainingState, key: jax.Array, num_episodes: int
) -> np.ndarray:
    """Of every policy on every unseen task; [k, tasks, episodes]."""
    num_policies = int(np.asarray(state.policy_ids).max()) + 1
    found = [
        evaluate_losses(
            ppo, unseen, state, np.full(unseen.num_tasks, j), key, num_episodes
        )
        for j in range(num_policies)
    ]
    return np.stack(found)


def measure_policy(
    ppo: PPO,
    state: TrainingState,
    batch: Transitions,
    losses: np.ndarray,
    start: PyTree,
    j: int,
    key: jax.Array,
    sizes: Sizes,
) -> tuple[float, ...]:
    """Trace, its error, distance, both leading terms and the bound of one policy."""
    rows = np.flatnonzero(np.asarray(state.policy_ids) == j)
    params = jax.tree.map(lambda x: x[j], state.params["policy"])
    own = jax.tree.map(lambda x: x[rows], batch)
    scale = jnp.asarray(1.0 - losses[rows], jnp.float32)
    trace = estimate_trace(
        ppo.actor_critic, params, own, scale, key, sizes.num_products, "hutch++"
    )
    distance = float(global_norm(jax.tree.map(jnp.subtract, params, start)))
    observed = float(np.clip(losses[rows].mean(), 0.0, 1.0))
    by_tasks, by_transitions = (
        pac_bayes_bound(observed, float(trace.value), distance, n)
        for n in (len(rows), len(rows) * sizes.num_transitions)
    )
    return (
        float(trace.value),
        float(trace.standard_error),
        distance,
        by_tasks.leading,
        by_transitions.leading,
        by_tasks.loss,
    )


def policy_loss(
    networks: ActorCritic, batch: Transitions, scale: jax.Array, params: PyTree
) -> jax.Array:
    """- scale times the mean of A r, a mean over tasks; r is 1 whatever the parameters.

    Args:
      networks: whose log-probabilities are taken.
      batch: transitions [n, N, ...].
      scale: L / 500 of every task; [n].
      params: of the policy.
    """
    log_prob = networks.log_prob(params, batch.observation, batch.action)
    ratio = jnp.exp(log_prob - jax.lax.stop_gradient(log_prob))
    return -jnp.mean(scale * jnp.mean(batch.advantage * ratio, axis=1))


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
def estimate_trace(networks, params, batch, scale, key, num_products, method):
    """`hessian_trace` of `policy_loss`."""
    loss = functools.partial(policy_loss, networks, batch, scale)
    return hessian_trace(loss, params, key, num_products=num_products, method=method)


def compare_estimates(
    networks: ActorCritic,
    state: TrainingState,
    batch: Transitions,
    key: jax.Array,
    sizes: Sizes,
) -> dict[str, float]:
    """Root mean square errors of estimates of one task's trace, and the trace."""
    params = jax.tree.map(lambda x: x[0], state.params["policy"])
    first = jax.tree.map(lambda x: x[:1, :512], batch)  # exact traces take long
    loss = functools.partial(policy_loss, networks, first, jnp.ones(1))
    exact = float(jax.jit(lambda x: exact_hessian_trace(loss, x))(params))
    found = {"exact": exact}
    for method in ("hutchinson", "hutch++"):
        values = [
            estimate_trace(
                networks, params, first, jnp.ones(1), k, sizes.num_products, method
            ).value
            for k in jax.random.split(key, 10)
        ]
        found[method] = float(np.sqrt(np.mean((np.array(values) - exact) ** 2)))
    return found


COLUMNS = {
    "trace": "trace",
    "trace_error": "standard error",
    "distance": "distance",
    "source_loss": "loss",
    "unseen_loss": "loss, unseen",
    "gap": "gap",
    "leading_transitions": "leading term, n transitions",
    "leading": "leading term, n tasks",
    "bound": "bound, n tasks",
}


def to_markdown(seeds: Mapping[str, Any]) -> str:
    """Means over seeds: along training, of groupings, and of errors of estimates."""
    parts = []
    for kind, title in (("training", "updates"), ("groupings", "grouping")):
        rows = [
            [name, *(f"{mean(seeds, kind, name, x):.3g}" for x in COLUMNS)]
            for name in next(iter(seeds.values()))[kind]
        ]
        parts.append(Table([title, *COLUMNS.values()], rows).to_markdown())
    correlations = [
        [f"leading term, n {n}", *correlate(seeds, x)]
        for n, x in (("transitions", "leading_transitions"), ("tasks", "leading"))
    ] + [["trace", *correlate(seeds, "trace")]]
    header = ["rank correlation with the gap", "along training", "over groupings"]
    parts.append(Table(header, correlations).to_markdown())
    rows = [
        [
            seed,
            *(f"{x['estimates'][y]:.3g}" for y in ("exact", "hutchinson", "hutch++")),
        ]
        for seed, x in seeds.items()
    ]
    header = ["seed", "exact trace of task 1", "error of Hutchinson's", "of Hutch++"]
    parts.append(Table(header, rows).to_markdown())
    return "\n\n".join(parts)


def mean(seeds: Mapping[str, Any], kind: str, name: str, column: str) -> float:
    return float(np.mean([x[kind][name][column] for x in seeds.values()]))


def correlate(seeds: Mapping[str, Any], column: str) -> list[str]:
    """Within each seed, a mean over seeds: along training and over groupings."""
    cells = []
    for kind in ("training", "groupings"):
        found = [
            rank_correlation(
                [x[column] for x in seed[kind].values()],
                [x["gap"] for x in seed[kind].values()],
            )
            for seed in seeds.values()
        ]
        cells.append(f"{np.mean(found):.2f}")
    return cells


def draw(seeds: Mapping[str, Any]) -> Figure:
    """Trace, leading term and gap along training, and groupings beside each other."""
    with rc_context(figure_style()):
        figure = Figure(figsize=(10.0, 3.0), layout="constrained")
        traces, gaps, groupings = figure.subplots(1, 3)
        for number, (seed, x) in enumerate(seeds.items()):
            steps = [int(u) for u in x["training"]]
            color = GROUP_COLORS[number % len(GROUP_COLORS)]
            columns = {y: column(x["training"], y) for y in COLUMNS}
            traces.plot(steps, columns["trace"], "o-", ms=3, color=color, label=seed)
            gaps.plot(steps, columns["gap"], "o-", ms=3, color=color)
            gaps.plot(steps, columns["leading_transitions"], "s--", ms=3, color=color)
        traces.set_title("trace of the Hessian")
        gaps.set_title("gap (line), leading term (dashes)")
        for place in (traces, gaps):
            place.set_xlabel("updates")
        traces.legend(title="seed")
        for number, name in enumerate(next(iter(seeds.values()))["groupings"]):
            points = [x["groupings"][name] for x in seeds.values()]
            groupings.plot(
                [x["leading_transitions"] for x in points],
                [x["gap"] for x in points],
                "o",
                color=GROUP_COLORS[number],
                label=name,
            )
        groupings.set_title("groupings, a point a seed")
        groupings.set_xlabel("leading term, n transitions")
        groupings.set_ylabel("gap")
        groupings.legend()
    return figure


def column(entries: Mapping[str, Mapping[str, float]], name: str) -> Sequence[float]:
    return [x[name] for x in entries.values()]


if __name__ == "__main__":
    flags.mark_flags_as_required(["output"])
    app.run(main)
