"""Sums over millions of transitions of the meta-policy, collected and projected.

One scan takes an unroll of every environment, projects the policy gradients of its
transitions and adds them to sums of d^2 numbers, so that memory does not grow with the
number of transitions.
"""

from __future__ import annotations

import functools
from numbers import Integral

import jax
import jax.numpy as jnp

from pgx_jax.arguments import as_integer, as_key, check_switch, show
from pgx_jax.envs.core import SuiteState, TaskSuite
from pgx_jax.estimation.projection import (
    GaussianProjection,
    Projection,
    check_projection,
    draw_columns,
    project_gradients,
)
from pgx_jax.estimation.sharding import (
    REPLICATED,
    call_with_auto_axes,
    shard,
    specs_of,
)
from pgx_jax.estimation.sums import (
    StoredProjection,
    TaskSums,
    projection_fingerprint,
    sum_transitions,
)
from pgx_jax.training.assignment import check_distinct
from pgx_jax.training.meshes import split_suite
from pgx_jax.training.ppo import PPO, TrainingState
from pgx_jax.training.rollouts import unroll
from pgx_jax.types import Transitions


def collect_sums(
    ppo: PPO,
    suite: TaskSuite,
    state: TrainingState,
    key: jax.Array,
    num_transitions: int,
    projection_key: jax.Array,
    projection: Projection | None = None,
    *,
    num_parts: int = 8,
    noise: bool = True,
) -> tuple[TrainingState, TaskSums]:
    """Sums over transitions that are collected as they are needed.

    Parts are of different environments, so that no episode is in two of them. Sums of
    two calls add up where `projection_key`, projection and policy are the same; the
    state returned continues from where the environments stand.

    Args:
      ppo: settings and networks; `config.unroll_length` steps are taken at a time.
      suite: n tasks, or one of n objectives, whose features are then computed once;
        `suite.distinct` where tasks are objectives.
      state: one policy for all rows of tasks.
      key: for the actions.
      num_transitions: of every task; a multiple of
        `config.num_envs * config.unroll_length`.
      projection_key: draws P, which is stored: 4 p d bytes.
      projection: the distribution of P; `GaussianProjection()` if None.
      num_parts: divides `config.num_envs`.
      noise: also sum up what the noise of a training batch needs.

    Returns:
      The state with the environments after the last step, and the sums.

    Raises:
      ValueError: `num_transitions` or `num_parts` is not allowed, the suite's tasks
        share their samples, or the state is not of one policy for them.
    """
    if not isinstance(ppo, PPO):
        raise ValueError(f"ppo must be a PPO, got {show(ppo)}")
    ppo.check_state("state", state, suite)
    check_distinct(suite)
    config = ppo.config
    block = config.steps_per_update
    if (
        isinstance(num_transitions, bool)
        or not isinstance(num_transitions, Integral)
        or num_transitions < 1
        or num_transitions % block
    ):
        raise ValueError(
            "num_transitions must be a positive multiple of num_envs * unroll_length = "
            f"{block}, got {num_transitions!r}"
        )
    key, projection_key = as_key(key), as_key(projection_key, "projection_key")
    check_switch("noise", noise)
    num_parts = as_integer("num_parts", num_parts, 1)
    if config.num_envs % num_parts:
        raise ValueError(
            f"num_parts must divide num_envs = {config.num_envs}, got {num_parts}"
        )
    num_policies = jax.tree.leaves(state.params)[0].shape[0]
    if num_policies != 1:
        raise ValueError(
            f"state must be of one policy for all tasks of suite, got {num_policies}"
        )
    projection = GaussianProjection() if projection is None else projection
    check_projection(projection)
    settings = (projection, num_transitions // block, num_parts, noise)
    suite_state, sums = call_with_auto_axes(
        functools.partial(_collect, ppo, settings),
        (suite, state, key, projection_key),
        ppo.mesh,
        (specs_of(state.suite_state), REPLICATED),
    )
    return state._replace(suite_state=suite_state), sums


@functools.partial(jax.jit, static_argnums=(0, 1))
def _collect(ppo, settings, suite, state, key, projection_key):
    projection, num_unrolls, num_parts, noise = settings
    params = jax.tree.map(lambda x: x[0], state.params["policy"])
    columns = draw_columns(projection, projection_key, params)
    fingerprint = projection_fingerprint(projection, projection_key, params)

    def project(shared, samples):
        """Features of samples [N, rows, ...]; float32 [N, rows, d]."""
        params, columns, key = shared
        shape = samples[0].shape[:2]
        features = project_gradients(
            ppo.actor_critic.log_prob,
            params,
            *jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples),
            key=key,
            projection=StoredProjection(projection.dim, columns),
            method="reverse",
        )
        return features.reshape(*shape, -1)

    def unroll_sums(suite_state, unroll_key):
        suite_state, batch = unroll_transitions(
            ppo, suite, state._replace(suite_state=suite_state), unroll_key
        )
        samples = jax.tree.map(
            lambda x: jnp.swapaxes(x, 0, 1), (batch.observation, batch.action)
        )
        features = shard(project, ppo.mesh, (params, columns, projection_key), samples)
        features = jnp.swapaxes(features, 0, 1)
        shape = (*batch.advantage.shape, features.shape[-1])
        return suite_state, sum_transitions(
            jnp.broadcast_to(features, shape),
            batch.advantage,
            batch.valid,
            num_parts=num_parts,
            noise=noise,
            fingerprint=fingerprint,
        )

    def step(carry, unroll_key):
        suite_state, total = carry
        suite_state, sums = unroll_sums(suite_state, unroll_key)
        return (suite_state, total + sums), None

    shapes = jax.eval_shape(unroll_sums, state.suite_state, key)[1]
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    keys = jax.random.split(key, num_unrolls)
    zero = zero._replace(fingerprint=fingerprint)
    (suite_state, total), _ = jax.lax.scan(step, (state.suite_state, zero), keys)
    return suite_state, total


def unroll_transitions(
    ppo: PPO, suite: TaskSuite, state: TrainingState, key: jax.Array
) -> tuple[SuiteState, Transitions]:
    """The transitions of one unroll, `config.unroll_length` steps. Pure.

    Args:
      ppo: settings and networks.
      suite: n tasks.
      state: the policies, the critic and the environments.
      key: for the actions.

    Returns:
      The state of the environments then, and transitions [n, num_envs * unroll_length,
      ...] as `PPO.collect_transitions` returns them.
    """
    suite_state, rollout = unroll(
        split_suite(suite, ppo.mesh),
        ppo.actor_critic,
        state.params["policy"],
        state.observation_statistics,
        state.policy_ids,
        state.suite_state,
        key,
        ppo.config.unroll_length,
    )
    return suite_state, ppo.to_transitions(state, rollout)
