"""The trained policies of a run, for code of one's own, and the choice among them.

    policies = load_policies("runs/cartpole_planted")
    group = policies.group_of("cartpole-3")
    action = policies.act(observation, group)

A task that is in no group is given the policy that does best on it in a few episodes:

    group = route(policies, suite, jax.random.key(0)).groups[0]
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from pgx_jax.arguments import as_integer, as_path, show
from pgx_jax.envs import TaskSuite, as_tasks, from_brax
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.networks.distributions import Distribution
from pgx_jax.pipeline.checks import make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.tasks import make_tasks
from pgx_jax.runs.workdir import Workdir
from pgx_jax.training.episodes import evaluate
from pgx_jax.training.rollouts import normalize_observation
from pgx_jax.training.running_statistics import RunningStatistics
from pgx_jax.types import PyTree

if TYPE_CHECKING:
    from brax.envs.base import Env

ESTIMATED_GROUPS = "estimated groups"


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedPolicies:
    """The policies that one way of grouping has led to, one for each group.

    Attributes:
      suite: name of the suite that they were trained on.
      task_names: of its n tasks.
      method: the way of grouping, as the report calls it.
      labels: the group of each task, which is also its policy; int32 [n].
      actor_critic: the networks.
      params: of the policies; leaves of shape [k, ...].
      observation_statistics: what observations are normalized by;
        [k, observation_size].
    """

    suite: str
    task_names: tuple[str, ...]
    method: str
    labels: np.ndarray
    actor_critic: ActorCritic
    params: PyTree
    observation_statistics: RunningStatistics

    @property
    def num_groups(self) -> int:
        """k."""
        return int(self.labels.max()) + 1

    def group_of(self, task: str) -> int:
        """The group of a task that was trained on.

        Raises:
          ValueError: there is no such task; the message lists those that exist.
        """
        if task not in self.task_names:
            raise ValueError(
                f"task must be one of {', '.join(self.task_names)}; got {task!r}"
            )
        return int(self.labels[self.task_names.index(task)])

    def apply(self, observation: jax.Array, group: int | jax.Array) -> Distribution:
        """The action distribution, with `mode()`, `sample(key)` and `log_prob(action)`.

        Pure: `jax.jit(policies.apply)` and `jax.vmap` take it.

        Args:
          observation: as the environment gives it, not normalized, and after it the
            one-hot task id of a run with `suite.task_id`; float32
            [..., observation_size].
          group: whose policy; an integer in 0..k-1, which may be traced.

        Raises:
          ValueError: the observation has another size, or, outside jit, there is no
            such group.
        """
        size = self.actor_critic.observation_size
        if jnp.shape(observation)[-1:] != (size,):
            raise ValueError(
                f"observation must have shape [..., {size}], got "
                f"{list(jnp.shape(observation))}"
            )
        if not isinstance(group, Tracer) and not 0 <= group < self.num_groups:
            raise ValueError(
                f"group must be in 0..{self.num_groups - 1}, got {int(group)}"
            )
        params, statistics = jax.tree.map(
            jnp.asarray, (self.params, self.observation_statistics)
        )
        ids = jnp.asarray(group, jnp.int32)[None]
        row = jnp.asarray(observation, jnp.float32)[None]
        normal = normalize_observation(row, statistics, ids)[0]
        params = jax.tree.map(lambda x: x[group], params)
        return self.actor_critic.distribution(params, normal)

    def act(
        self,
        observation: jax.Array,
        group: int | jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """The most likely action of a group's policy, or a sampled one.

        Args:
          observation: as for `apply`.
          group: as for `apply`.
          key: samples the action; the most likely one if None.

        Returns:
          int32 [...] where actions are discrete, else float32 [..., action_size].
        """
        distribution = self.apply(observation, group)
        return distribution.mode() if key is None else distribution.sample(key)


def load_policies(
    workdir: str | os.PathLike[str],
    method: str = ESTIMATED_GROUPS,
    *,
    draw: int = 0,
) -> TrainedPolicies:
    """The policies of a run whose groups have been trained.

    Args:
      workdir: of the run. Nothing is written to it.
      method: the way of grouping, as the report calls it: "estimated groups", "one
        policy", "random groups", ...
      draw: of the methods that have several.

    Raises:
      ValueError: there is no run, its groups are not yet trained, the suite is one of
        the user's own that is not registered, or there is no such method or draw; the
        message lists those that exist.
    """
    workdir = as_path("workdir", workdir)
    draw = as_integer("draw", draw, 0)
    if not isinstance(method, str):
        raise ValueError(f"method must be a name, got {show(method)}")
    directory = Workdir.open(workdir)
    suite, actor_critic = rebuild(directory)
    stage, draws = find_method(directory, method)
    if draw >= len(draws):
        raise ValueError(
            f"draw must be in 0..{len(draws) - 1} for {method!r}, got {draw}"
        )
    if not directory.is_finished(stage):
        raise ValueError(
            f"workdir {workdir!r} holds a run that has not yet trained the "
            f"policies of {method!r}; the command that started it goes on from there"
        )
    path = directory.latest_state(stage)
    assert path is not None  # of a stage that is finished
    params, statistics = restore_policy(path)
    used, labels = np.unique(draws[draw], return_inverse=True)
    mine = jax.tree.map(lambda x: x[used], (params, statistics))
    return TrainedPolicies(
        suite=suite.name,
        task_names=tuple(suite.task_names),
        method=method,
        labels=labels.astype(np.int32),
        actor_critic=actor_critic,
        params=mine[0],
        observation_statistics=mine[1],
    )


class Route(NamedTuple):
    """Which group's policy each task is given.

    Attributes:
      groups: of every task the group whose policy returns most; int32 [tasks].
      returns: mean return of every policy on every task; float32 [k, tasks].
      env_steps: environment steps taken.
    """

    groups: np.ndarray
    returns: np.ndarray
    env_steps: int


def route(
    policies: TrainedPolicies,
    tasks: TaskSuite | Env,
    key: jax.Array,
    num_episodes: int = 8,
    *,
    deterministic: bool = True,
    episode_length: int = 1000,
) -> Route:
    """Chooses for each task the policy that does best on it in a few episodes.

    All policies start from the same states of a task and draw the same random numbers.
    The stage "adaptation" of a run chooses in the same way.

    Args:
      policies: of k groups.
      tasks: a suite of tasks, or one Brax environment.
      key: of the episodes.
      num_episodes: of every policy on every task.
      deterministic: take the most likely action, else sample.
      episode_length: steps after which an episode of an environment is cut; a suite
        has its own.

    Raises:
      ValueError: observations or actions are not those of the policies, `tasks` is
        neither of both, or another argument is out of range or none.
    """
    if not isinstance(policies, TrainedPolicies):
        raise ValueError(
            f"policies must be of load_policies, got {type(policies).__name__}"
        )
    episode_length = as_integer("episode_length", episode_length, 1)
    from brax.envs.base import Env  # at the head, before MJX is silenced

    if isinstance(tasks, Env):
        tasks = from_brax(tasks, episode_length=episode_length)
    if not isinstance(tasks, TaskSuite):
        raise ValueError(
            "tasks must be a TaskSuite or a Brax environment, got "
            f"{type(tasks).__name__}"
        )
    tasks = as_tasks(tasks)
    _check_sizes(policies, tasks)
    returns, lengths = play_all(
        tasks,
        policies.actor_critic,
        policies.params,
        policies.observation_statistics,
        np.arange(policies.num_groups),
        key,
        num_episodes,
        deterministic=deterministic,
    )
    groups = np.argmax(returns, axis=0).astype(np.int32)
    return Route(groups, returns, int(lengths.sum()))


def play_all(
    suite: TaskSuite,
    actor_critic: ActorCritic,
    params: PyTree,
    observation_statistics: RunningStatistics,
    policies: Sequence[int] | np.ndarray,
    key: jax.Array,
    num_episodes: int,
    *,
    deterministic: bool,
    mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Plays some policies on every task of a suite.

    Args:
      suite: the tasks.
      actor_critic: the networks.
      params: of policies; leaves of shape [k, ...].
      observation_statistics: [k, observation_size].
      policies: those that play; int [p].
      key: of the episodes.
      num_episodes: of each policy on each task.
      deterministic: take the most likely action, else sample.
      mesh: devices to split the episodes over, whose number divides theirs.

    Returns:
      Mean returns, float32 [p, tasks], and steps of all episodes, int [p].
    """
    num_tasks = suite.num_tasks
    result = evaluate(
        suite,
        actor_critic,
        params,
        observation_statistics,
        np.repeat(policies, num_tasks),
        key,
        num_episodes,
        deterministic=deterministic,
        tasks=np.tile(np.arange(num_tasks), len(policies)),
        mesh=mesh,
    )
    shape = (len(policies), num_tasks, -1)
    returns = np.asarray(result.episode_return).reshape(shape).mean(axis=-1)
    lengths = np.asarray(result.episode_length).reshape(shape)
    # Those of objectives are one.
    return returns, lengths[:, : suite.distinct.num_tasks].sum(axis=(1, 2))


def rebuild(directory: Workdir) -> tuple[TaskSuite, ActorCritic]:
    """The suite of a run and the networks of its policies."""
    config = PipelineConfig.from_stored(directory.config)
    suite = make_tasks(config.suite)
    return suite, make_networks(config, suite)


def find_method(directory: Workdir, method: str) -> tuple[str, np.ndarray]:
    """The stage that trains a method's policies, and each task's policy there.

    Returns:
      The stage and the policies of every draw, int [draws, n].

    Raises:
      ValueError: the groups are not yet known, or there is no such method.
    """
    policies = directory.read_policies()
    if policies is None:
        raise ValueError(
            f"workdir {str(directory.path)!r} lacks policies.json: its groups are not "
            "known yet, or it is of an earlier version; the command of the run goes on "
            "from there and adds it"
        )
    if method not in policies:
        raise ValueError(f"method must be one of {', '.join(policies)}; got {method!r}")
    return policies[method]["stage"], np.array(policies[method]["policy_ids"])


def restore_policy(path: Path) -> tuple[PyTree, RunningStatistics]:
    """Policy parameters and observation statistics of a training state.

    Read as NumPy arrays, whatever devices they were on, and without the environments
    and the optimizer, which are most of a checkpoint.
    """
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        wanted = {
            "params": {"policy": tree["params"]["policy"]},
            "observation_statistics": tree["observation_statistics"],
        }
        kind = ocp.RestoreArgs(restore_type=np.ndarray)
        state = checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=jax.tree.map(lambda _: kind, wanted),
                partial_restore=True,
            ),
        )
    statistics = RunningStatistics(**state["observation_statistics"])
    return state["params"]["policy"], statistics


def _check_sizes(policies: TrainedPolicies, suite: TaskSuite) -> None:
    """Refuses tasks that the policies cannot act in."""
    networks = policies.actor_critic
    if networks.num_tasks and suite.num_ids != networks.num_tasks:
        raise ValueError(
            f"tasks must be those of {policies.suite!r} with their ids (TaskIdSuite): "
            "these policies read the id of a task, and unseen tasks have none; train "
            "with network.name=mlp and without suite.task_id to route these"
        )
    if suite.observation_size != networks.observation_size:
        raise ValueError(
            f"tasks must give observations of size {networks.observation_size}, as "
            f"those of {policies.suite!r} do, got {suite.observation_size}"
        )
    observation = jax.ShapeDtypeStruct((networks.observation_size,), jnp.float32)
    distribution = jax.eval_shape(lambda x: policies.apply(x, 0), observation)
    size = jax.tree.leaves(distribution)[0].shape[-1]
    if (suite.action_space.size, suite.action_space.discrete) != (
        size,
        networks.discrete,
    ):
        kind = "discrete" if networks.discrete else "continuous"
        raise ValueError(
            f"tasks must take {kind} actions of size {size}, as those of "
            f"{policies.suite!r} do, got {suite.action_space}"
        )
