"""Multitask PPO: k policies on r rows of tasks, in one jitted program.

A row is a task and the policy that learns it. One policy for all tasks is k = 1; one
policy per group, every baseline beside it, and fine-tuning on many subsets are other
assignments of rows to policies, so that all of them train in the same program.

Of a suite whose rewards are vectors, the critic has one head an objective, advantages
are estimated for each objective, and the policy learns from the weighted sum of what
each is once it is normalized by itself (`pgx_jax.training.objectives`). The weights are
the suite's `preferences`, or 1 for the objectives that the policy's tasks are; where
`config.return_weights` chooses them from the returns of the objectives, these keep
their units.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from pgx_jax.arguments import as_key, as_numbers, shorten, show
from pgx_jax.envs.core import StepSuite, SuiteState
from pgx_jax.envs.dtypes import strengthen
from pgx_jax.estimation.checks import is_traced
from pgx_jax.estimation.sharding import (
    REPLICATED,
    auto_mesh,
    call_with_auto_axes,
    shardings_of,
    specs_of,
)
from pgx_jax.networks.actor_critic import ActorCritic
from pgx_jax.training.assignment import (
    check_distinct,
    check_num_updates,
    check_policy_ids,
    check_start,
    check_suite,
    choose,
)
from pgx_jax.training.gradients import list_members, start_combination
from pgx_jax.training.learning import Batch, Metrics, learn, make_optimizer
from pgx_jax.training.losses import (
    generalized_advantages,
    normalize_advantages,
    weight_advantages,
)
from pgx_jax.training.meshes import (
    check_mesh,
    constrain,
    environment_specs,
    split_suite,
)
from pgx_jax.training.objectives import (
    decoupled_advantages,
    objective_advantages,
    policy_preferences,
)
from pgx_jax.training.ppo_config import PPOConfig, check_count
from pgx_jax.training.rollouts import (
    Rollout,
    episode_metrics,
    map_rows,
    normalize_observation,
    unroll,
)
from pgx_jax.training.running_statistics import (
    RunningStatistics,
    update_observation_statistics,
    update_value_statistics,
)
from pgx_jax.training.weights_config import make_return_weighting
from pgx_jax.types import PyTree, Transitions

__all__ = ["PPO", "Metrics", "PPOConfig", "TrainingState"]


class TrainingState(NamedTuple):
    """All that training needs to continue; one pytree that a checkpoint holds whole.

    Attributes:
      params: leaves of shape [k, ...].
      optimizer_state: leaves of shape [k, ...].
      observation_statistics: [k, observation_size].
      value_statistics: [r], or [r, K] of K objectives.
      policy_ids: the policy of each row; int32 [r].
      suite_state: leaves of shape [r, num_envs, ...].
      key: the key of the run, never used up: each update folds its number into it.
      num_updates: updates done; int32.
      return_weights: state of the weights from returns, leaves of shape [r], or [r, K]
        of K objectives; () where there are none.
    """

    params: PyTree
    optimizer_state: PyTree
    observation_statistics: RunningStatistics
    value_statistics: RunningStatistics
    policy_ids: jax.Array
    suite_state: SuiteState
    key: jax.Array
    num_updates: jax.Array
    return_weights: PyTree = ()

    def first_rows(self, num_rows: int) -> TrainingState:
        """The state of the first rows alone, and of all policies."""
        fields = ("value_statistics", "policy_ids", "suite_state", "return_weights")
        return self._replace(
            **{
                name: jax.tree.map(lambda x: x[:num_rows], getattr(self, name))
                for name in fields
            }
        )


@dataclasses.dataclass(frozen=True)
class PPO:
    """The training step, and the states that it starts from.

    Attributes:
      config: settings.
      actor_critic: the networks.
      num_updates: length of the run, which the learning rate is annealed over; or of
        the run of every policy, k integers. These end each at its own time: a policy
        whose updates are over stays as it is, statistics and optimizer included, while
        its environments go on with the others'.
      tasks: the task of each row, which weights from returns are given for; r integers.
        If None, row i is task i.
      learning_rates: of every policy, k positive numbers, to compare some in one
        program; None for that of the settings.
      mesh: devices to split the environments over, along all its axes, whose types are
        made Auto; `num_envs` is a multiple of their number. Every device has a copy of
        the policies. If None, training is on the devices that the state is on.

    Raises:
      ValueError: `num_updates` is not a positive integer, nor a sequence of them,
        `learning_rates` are no positive numbers, or `mesh` is none or does not divide
        the environments.
    """

    config: PPOConfig
    actor_critic: ActorCritic
    num_updates: int | Sequence[int] | np.ndarray
    tasks: tuple[int, ...] | None = None
    learning_rates: Sequence[float] | np.ndarray | None = None
    mesh: Mesh | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        check_mesh(self.mesh, num_envs=self.config.num_envs)
        if self.mesh is not None:
            object.__setattr__(self, "mesh", auto_mesh(self.mesh))
        # Hashable, since jitted methods are compiled once for each trainer.
        num_updates = check_num_updates(self.num_updates)
        object.__setattr__(self, "num_updates", num_updates)
        if self.learning_rates is not None:
            rates = as_numbers("learning_rates", self.learning_rates)
            if rates.ndim != 1 or not rates.size or not np.all(rates > 0):
                raise ValueError(
                    "learning_rates must be positive numbers, one a policy, got "
                    f"{show(self.learning_rates)}"
                )
            object.__setattr__(self, "learning_rates", tuple(rates.tolist()))

    @property
    def total_updates(self) -> int:
        """Updates until the run of every policy is over."""
        return int(np.max(self.num_updates))

    def init(
        self,
        suite: StepSuite,
        key: jax.Array,
        policy_ids: Sequence[int] | np.ndarray | None = None,
    ) -> TrainingState:
        """Starts from policies drawn anew.

        Args:
          suite: r tasks.
          key: for the parameters, the environments and the actions.
          policy_ids: the policy of each row, numbered 0..k-1; r integers. By default
            one policy learns every task.

        Raises:
          ValueError: `policy_ids` has another length, leaves a policy without a row,
            there are not as many `num_updates` as policies, or the networks do not fit
            the suite.
        """
        key = check_start(suite, key)
        if policy_ids is None:
            policy_ids = np.zeros((suite.num_tasks,), np.int32)
        ids = check_policy_ids(policy_ids, suite.num_tasks, self.num_updates)
        self._check_networks(suite)
        self._check_rates(int(ids.max()) + 1)
        members = list_members(self.config.gradients, ids)
        num_policies = int(ids.max()) + 1
        return self._on_devices(
            lambda *arrays: self._init(*arrays, num_policies),
            (suite, key, ids, members),
            self._state_specs(),
        )

    def init_from(
        self,
        suite: StepSuite,
        key: jax.Array,
        policy_ids: Sequence[int] | np.ndarray,
        params: PyTree,
        observation_statistics: RunningStatistics,
        value_statistics: RunningStatistics,
    ) -> TrainingState:
        """Starts from given parameters, with new environments and a new optimizer.

        Args:
          suite: r tasks.
          key: for the environments and the actions.
          policy_ids: the policy of each row, numbered 0..k-1; r integers.
          params: leaves of shape [k, ...], or [1, ...] for k policies that all start
            from the same one, as the groups do from the meta-policy.
          observation_statistics: [k, observation_size] or [1, observation_size].
          value_statistics: of the task of each row, [r], or [r, K] of K objectives.

        Raises:
          ValueError: one of the arguments or `num_updates` has another length,
            `policy_ids` leaves a policy without a row, or the networks do not fit the
            suite.
        """
        key = check_start(suite, key)
        ids = check_policy_ids(policy_ids, suite.num_tasks, self.num_updates)
        num_policies = int(ids.max()) + 1
        self._check_networks(suite)
        self._check_rates(num_policies)
        for name, tree, lengths in (
            ("params", params, {1, num_policies}),
            ("observation_statistics", observation_statistics, {1, num_policies}),
            ("value_statistics", value_statistics, {suite.num_tasks}),
        ):
            given = {x.shape[0] if x.ndim else 0 for x in jax.tree.leaves(tree)}
            if len(given) != 1 or not given <= lengths:
                raise ValueError(
                    f"every leaf of {name} must have a leading axis of length "
                    f"{' or '.join(map(str, sorted(lengths)))}, got "
                    f"{', '.join(map(str, sorted(given)))}"
                )

        expected = (suite.num_tasks, *suite.reward_shape)
        if jnp.shape(value_statistics.mean) != expected:
            raise ValueError(
                f"value_statistics must be of shape {list(expected)} for suite "
                f"{suite.name!r}, got {list(jnp.shape(value_statistics.mean))}"
            )

        def repeat(x):
            return jnp.broadcast_to(x, (num_policies, *x.shape[1:]))

        repeated = jax.tree.map(repeat, (params, observation_statistics))
        members = list_members(self.config.gradients, ids)
        return self._on_devices(
            self._start,
            (suite, key, ids, members, *repeated, value_statistics),
            self._state_specs(),
        )

    def step(
        self, suite: StepSuite, state: TrainingState, key: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One update: acts in every environment, then improves every policy.

        Pure. Metrics are per row, float32 [r], except `gradient_norm`, [k], and
        `return` and `task_weight` of vector rewards, [r, K], unless tasks are
        objectives;
        `episodes` counts the episodes that ended and `return`, `length` and `success`
        are their means, which mean nothing, and are 0, where none did (`on_host` of
        `pgx_jax.training.diagnostics` makes them NaN); `divergences` counts the steps
        that were not finite; `task_weight` is there where returns weight the tasks. All
        are 0 of policies whose updates are over.
        """
        act_key, learn_key = jax.random.split(key)
        suite_state, rollout = self._unroll(
            suite, state, act_key, self.config.unroll_length
        )
        of_episodes = episode_metrics(suite, rollout)
        weights, weights_state = self._weigh_tasks(suite, state, of_episodes)
        batch, value_statistics = self._prepare(suite, state, rollout, weights)
        params, optimizer_state, metrics = learn(
            self.config,
            self.actor_critic,
            make_optimizer(self.config, self.num_updates, self.learning_rates),
            state.params,
            state.optimizer_state,
            state.policy_ids,
            batch,
            learn_key,
            self.mesh,
        )
        updated = self._updated(
            state, params, optimizer_state, suite_state, rollout, value_statistics
        )._replace(return_weights=weights_state)
        metrics |= of_episodes
        if weights is not None:
            metrics["task_weight"] = weights
        return self._keep_finished(state, updated, metrics)

    def run(
        self, suite: StepSuite, state: TrainingState, num_updates: int
    ) -> tuple[TrainingState, Metrics]:
        """Takes `num_updates` steps in one program.

        The state given is donated: its buffers are gone afterwards. Metrics get a
        leading axis of updates.

        Raises:
          ValueError: `num_updates` is not a positive integer, or the state is none of
            this trainer and this suite, or was donated before.
        """
        check_count("num_updates", num_updates)
        self.check_state("state", state, suite)
        specs = specs_of(state) if self.mesh is None else self._state_specs()
        return self._on_devices(
            lambda suite, state: self._run(suite, self._place(state), num_updates),
            (suite, state),
            (specs, REPLICATED),
        )

    def collect_transitions(
        self, suite: StepSuite, state: TrainingState, key: jax.Array, num_steps: int
    ) -> Transitions:
        """Rolls the current policies out from where the environments stand.

        The state is left as it is, so that the same transitions come from the same key.

        Args:
          suite: r tasks, `suite.distinct` where they are objectives.
          state: the policies, the critic and the environments.
          key: for the actions.
          num_steps: transitions per row; a multiple of `config.num_envs`.

        Returns:
          Transitions [r, num_steps, ...], or of r K tasks where rewards are of K
          objectives (see `to_transitions`): the observations normalized as the policy
          sees them, and advantages in units of reward, neither centered nor scaled. The
          steps of one environment stand side by side, in the order of time.

        Raises:
          ValueError: `num_steps` is not a positive multiple of `config.num_envs`,
            the suite's tasks share their samples, or the state is none of this trainer
            and this suite.
        """
        check_count("num_steps", num_steps)
        self.check_state("state", state, suite)
        check_distinct(suite)
        if num_steps % self.config.num_envs:
            raise ValueError(
                f"num_steps must be a multiple of num_envs = {self.config.num_envs}, "
                f"got {num_steps}"
            )
        return self._on_devices(
            lambda *arrays: self._collect(*arrays, num_steps),
            (suite, state, as_key(key)),
        )

    def check_state(self, name: str, state: TrainingState, suite: StepSuite) -> None:
        """Refuses a state of another trainer or suite, or one whose buffers are gone.

        Args:
          name: of the argument.
          state: the state.
          suite: r tasks.

        Raises:
          ValueError: the message gives `name`, or names `suite`.
        """
        check_suite(suite)
        self._check_networks(suite)
        if not isinstance(state, TrainingState):
            raise ValueError(
                f"{name} must be a TrainingState, as init returns one, got "
                f"{shorten(state)}"
            )
        arrays = [x for x in jax.tree.leaves(state) if isinstance(x, jax.Array)]
        if any(not isinstance(x, Tracer) and x.is_deleted() for x in arrays):
            raise ValueError(
                f"{name} must have its buffers, which run has taken: go on with the "
                "state that it returned"
            )
        ids, environments = state.policy_ids, state.suite_state.observation
        sizes = (suite.num_tasks, self.config.num_envs, suite.observation_size)
        if ids.shape != sizes[:1] or environments.shape != sizes:
            raise ValueError(
                f"{name} must be of the {sizes[0]} tasks of suite in {sizes[1]} "
                f"environments each, with observations of size {sizes[2]}, got "
                f"{list(ids.shape)} rows and observations {list(environments.shape)}"
            )
        reward = state.suite_state.reward
        if reward.shape[2:] != suite.reward_shape:
            raise ValueError(
                f"{name} must have rewards of shape {list(suite.reward_shape)}, as "
                f"suite gives them, got {list(reward.shape[2:])}"
            )
        networks = jax.eval_shape(self.actor_critic.init, jax.random.key(0))
        expected, found = (
            [(str(path), x.shape[start:]) for path, x in tree]
            for start, tree in (
                (0, jax.tree.leaves_with_path(networks)),
                (1, jax.tree.leaves_with_path(state.params)),
            )
        )
        if expected != found:
            raise ValueError(f"{name} must hold parameters of the networks of this PPO")

    def to_transitions(self, state: TrainingState, rollout: Rollout) -> Transitions:
        """A rollout as the estimator takes it. Pure.

        Vector rewards make every objective of a row a task of the estimator, in the
        order of rows and then of objectives. Those of one row have their samples in
        common: observations and actions are [1, N, ...] then, and the estimator
        computes their gradients once for all K.

        Args:
          state: the policies that acted, and the critic.
          rollout: [r, time, num_envs, ...].

        Returns:
          Transitions [r, num_envs * time, ...] as `collect_transitions` returns them.
        """
        observation, advantage, _ = self._advantages(state, rollout)
        steps = (observation, rollout.action, advantage)
        by_environment = jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2), steps)
        samples = Transitions(*jax.tree.map(flatten, by_environment))
        return _split_objectives(samples) if advantage.ndim > 3 else samples

    def _on_devices(
        self, function: Callable[..., Any], arrays: tuple, specs: PyTree = REPLICATED
    ) -> Any:
        """As `call_with_auto_axes`, on the mesh where there is one."""
        return call_with_auto_axes(function, arrays, self.mesh, specs)

    def _state_specs(self) -> PyTree:
        """How a state lies on the mesh."""
        if self.mesh is None:
            return REPLICATED
        number = len(TrainingState._fields)
        replicated = TrainingState(*[REPLICATED] * number)  # pyright: ignore
        return replicated._replace(suite_state=environment_specs(self.mesh))

    def _place(self, state: TrainingState) -> TrainingState:
        """The state on the devices of the mesh, to compile for one layout only."""
        if self.mesh is None or is_traced(state):
            return state
        shardings = shardings_of(self.mesh, self._state_specs())
        return jax.device_put(state, shardings)

    def _constrain(self, state: TrainingState) -> TrainingState:
        """Has the compiler keep that layout."""
        return constrain(state, self.mesh, self._state_specs())

    @functools.partial(jax.jit, static_argnums=(0, 5))
    def _init(self, suite, key, policy_ids, members, num_policies) -> TrainingState:
        params_key, start_key = jax.random.split(key)
        params_keys = jax.random.split(params_key, num_policies)
        return self._start(
            suite,
            start_key,
            policy_ids,
            members,
            # One after another: the batched decompositions of orthogonal weights can
            # wait for each other forever on a busy CPU of few cores (jaxlib 0.10.2).
            jax.lax.map(self.actor_critic.init, params_keys),
            RunningStatistics.create(num_policies, (suite.observation_size,)),
            RunningStatistics.create(suite.num_tasks, suite.reward_shape),
        )

    @functools.partial(jax.jit, static_argnums=0)
    def _start(
        self,
        suite,
        key,
        policy_ids,
        members,
        params,
        observation_statistics,
        value_statistics,
    ) -> TrainingState:
        reset_key, run_key, stagger_key = jax.random.split(key, 3)
        optimizer_state = make_optimizer(self.config, self.num_updates).init(params)
        if members is not None:
            stagger_key, method_key = jax.random.split(stagger_key)
            optimizer_state = start_combination(
                self.config.gradients, params, members, method_key, optimizer_state
            )
        suite_state = suite.reset(reset_key, self.config.num_envs)
        if self.config.stagger_resets:
            limits = jnp.asarray(suite.episode_lengths)[:, None]
            shape = suite_state.episode_length.shape
            length = jax.random.randint(stagger_key, shape, 0, limits)
            suite_state = suite_state._replace(episode_length=length)
        weighting = make_return_weighting(self.config.return_weights, [0])
        state = TrainingState(
            params=params,
            optimizer_state=optimizer_state,
            observation_statistics=observation_statistics,
            value_statistics=value_statistics,
            policy_ids=policy_ids,
            suite_state=suite_state,
            key=run_key,
            num_updates=jnp.zeros((), jnp.int32),
            return_weights=(
                ()
                if weighting is None
                else jax.tree.map(
                    lambda x: x.reshape(suite.num_tasks, *suite.reward_shape),
                    weighting.init(suite.num_tasks * math.prod(suite.reward_shape)),
                )
            ),
        )
        return self._constrain(jax.tree.map(strengthen, state))

    @functools.partial(jax.jit, static_argnums=(0, 3), donate_argnums=2)
    def _run(self, suite, state, num_updates) -> tuple[TrainingState, Metrics]:
        def update(state, _):
            key = jax.random.fold_in(state.key, state.num_updates)
            state, metrics = self.step(suite, state, key)
            return self._constrain(state), metrics

        return jax.lax.scan(update, state, None, num_updates)

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def _collect(self, suite, state, key, num_steps) -> Transitions:
        _, rollout = self._unroll(suite, state, key, num_steps // self.config.num_envs)
        return self.to_transitions(state, rollout)

    def _updated(
        self,
        state: TrainingState,
        params: PyTree,
        optimizer_state: PyTree,
        suite_state: SuiteState,
        rollout: Rollout,
        value_statistics: RunningStatistics,
    ) -> TrainingState:
        """The state after an update, with the observations of its rollout counted."""
        return state._replace(
            params=params,
            optimizer_state=optimizer_state,
            # Only now, so that the data of this update was normalized as the policy
            # that drew it saw it, and the first probability ratios are exactly one.
            observation_statistics=update_observation_statistics(
                state.observation_statistics,
                flatten(rollout.observation),
                state.policy_ids,
                self.actor_critic.num_tasks,
            ),
            value_statistics=value_statistics,
            suite_state=suite_state,
            num_updates=state.num_updates + 1,
        )

    def _keep_finished(
        self, state: TrainingState, updated: TrainingState, metrics: Metrics
    ) -> tuple[TrainingState, Metrics]:
        """Puts policies whose updates were over back to what they were."""
        if isinstance(self.num_updates, int):
            return updated, metrics
        policies = state.num_updates < jnp.asarray(self.num_updates)
        rows = policies[state.policy_ids]
        fields = ("params", "optimizer_state", "observation_statistics")
        masks = dict.fromkeys(fields, policies)
        masks |= dict.fromkeys(("value_statistics", "return_weights"), rows)
        kept = {
            name: choose(mask, getattr(updated, name), getattr(state, name))
            for name, mask in masks.items()
        }
        return updated._replace(**kept), {
            name: choose(
                policies if name == "gradient_norm" else rows, x, jnp.zeros_like(x)
            )
            for name, x in metrics.items()
        }

    def _check_rates(self, num_policies: int) -> None:
        rates = self.learning_rates
        if rates is not None and len(rates) != num_policies:
            raise ValueError(
                f"learning_rates must be one for each of {num_policies} policies, got "
                f"{len(rates)}"
            )

    def _check_networks(self, suite: StepSuite) -> None:
        networks, space = self.actor_critic, suite.action_space
        if networks.observation_size != suite.observation_size:
            raise ValueError(
                f"actor_critic takes observations of size {networks.observation_size}, "
                f"suite {suite.name!r} gives {suite.observation_size}"
            )
        if networks.num_tasks not in (0, suite.num_ids):
            raise ValueError(
                "actor_critic takes observations that end in a one-hot task id of "
                f"length {networks.num_tasks}, suite {suite.name!r} gives one of "
                f"length {suite.num_ids} (TaskIdSuite, or its num_ids)"
            )
        weighs = self.config.return_weights.name
        if weighs != "none" and not (suite.preferences is suite.objectives is None):
            raise ValueError(
                "return_weights must be none where suite has preferences, or tasks "
                "that are objectives, which weigh the objectives already, got "
                f"{weighs!r}"
            )
        if networks.num_objectives != len(suite.objective_names):
            raise ValueError(
                f"actor_critic has a critic of {networks.num_objectives} objectives "
                "(num_objectives; 0 for single rewards), suite "
                f"{suite.name!r} gives rewards of {len(suite.objective_names)}"
            )
        params = jax.eval_shape(networks.init, jax.random.key(0))
        observation = jax.ShapeDtypeStruct((suite.observation_size,), jnp.float32)
        distribution = jax.eval_shape(
            networks.distribution, params["policy"], observation
        )
        size = jax.tree.leaves(distribution)[0].shape[-1]
        if (size, networks.discrete) != (space.size, space.discrete):
            kinds = {True: "discrete", False: "continuous"}
            raise ValueError(
                f"actor_critic has {kinds[networks.discrete]} actions of size {size}, "
                f"suite {suite.name!r} takes {kinds[space.discrete]} ones of size "
                f"{space.size}"
            )

    def _unroll(self, suite, state, key, length) -> tuple[SuiteState, Rollout]:
        return unroll(
            split_suite(suite, self.mesh),
            self.actor_critic,
            state.params["policy"],
            state.observation_statistics,
            state.policy_ids,
            state.suite_state,
            key,
            length,
        )

    def _advantages(
        self, state: TrainingState, rollout: Rollout
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Normalized observations, advantages and values; [r, time, num_envs, ...].

        Those of vector rewards are of each objective, [r, time, num_envs, K].
        """
        estimate = (
            objective_advantages if rollout.reward.ndim > 3 else generalized_advantages
        )
        scale = state.value_statistics.std[:, None, None]
        shift = state.value_statistics.mean[:, None, None]

        def normalize(observation):
            return normalize_observation(
                observation, state.observation_statistics, state.policy_ids
            )

        def value(observation):
            normalized = map_rows(
                self.actor_critic.value,
                state.params["value"],
                state.policy_ids,
                observation,
            )
            return normalized * scale + shift

        observation = normalize(rollout.observation)
        values = value(observation)
        advantages = jax.vmap(
            functools.partial(
                estimate,
                discount=self.config.discount,
                gae_lambda=self.config.gae_lambda,
            )
        )(
            rollout.reward,
            values,
            value(normalize(rollout.next_observation)),
            rollout.termination,
            rollout.truncation,
            rollout.divergence,
        )
        return observation, advantages, values

    def _weigh_tasks(
        self, suite: StepSuite, state: TrainingState, of_episodes: Metrics
    ) -> tuple[jax.Array | None, PyTree]:
        """Weights by the returns of episodes that have ended, and their new state.

        Of vector rewards every objective of a row has its own, [r, K].
        """
        shape = (suite.num_tasks, *suite.reward_shape)
        num = math.prod(suite.reward_shape)
        tasks = range(suite.num_tasks) if self.tasks is None else self.tasks
        rows = [num * task + k for task in tasks for k in range(num)]
        settings = self.config.return_weights
        for field, allowed in () if self.tasks else settings.misfits(len(rows)):
            raise ValueError(
                f"config.return_weights.{field} {allowed} of suite {suite.name!r}, "
                f"got {show(getattr(settings, field))}"
            )
        weighting = make_return_weighting(self.config.return_weights, rows)
        if weighting is None:
            return None, state.return_weights
        weights, new = weighting.weights(
            jax.tree.map(jnp.ravel, state.return_weights),
            of_episodes["return"].ravel(),
            jnp.repeat(of_episodes["episodes"] > 0, num),
            jnp.repeat(state.policy_ids, num),
        )
        return jax.tree.map(lambda x: x.reshape(shape), (weights, new))

    def _prepare(
        self,
        suite: StepSuite,
        state: TrainingState,
        rollout: Rollout,
        weights: jax.Array | None = None,
    ) -> tuple[Batch, RunningStatistics]:
        """Advantages, normalized per row, and value targets, normalized per task."""
        observation, advantages, values = self._advantages(state, rollout)
        targets = flatten(advantages + values)
        statistics = update_value_statistics(
            state.value_statistics, targets, self.config.value_decay
        )
        flat = flatten(advantages)
        if suite.reward_shape:
            if weights is None:
                preferences = suite.preferences
                if suite.objectives is not None:
                    preferences = policy_preferences(
                        suite.objectives, state.policy_ids, *suite.reward_shape
                    )
                flat = decoupled_advantages(flat, preferences)
            else:
                flat = jnp.sum(flat * weights[:, None], axis=2)
                weights = jnp.ones_like(weights[:, 0])
        if weights is None:
            flat = normalize_advantages(flat)
        else:
            flat = weight_advantages(flat, weights, state.policy_ids)
        batch = Batch(
            observation=flatten(observation),
            action=flatten(rollout.action),
            log_prob=flatten(rollout.log_prob),
            advantage=flat,
            value_target=(targets - statistics.mean[:, None]) / statistics.std[:, None],
        )
        return batch, statistics


def flatten(x: jax.Array) -> jax.Array:
    """[r, time, num_envs, ...] to [r, time * num_envs, ...]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def _split_objectives(samples: Transitions) -> Transitions:
    """Samples of r rows and K objectives as those of r K tasks.

    Args:
      samples: observations and actions [r, N, ...], advantages [r, N, K].
    """
    advantage = jnp.moveaxis(samples.advantage, 2, 1)
    num_rows, num_objectives, num_samples = advantage.shape

    def repeat(x):
        return x if num_rows == 1 else jnp.repeat(x, num_objectives, axis=0)

    return Transitions(
        repeat(samples.observation),
        repeat(samples.action),
        advantage.reshape(num_rows * num_objectives, num_samples),
    )
