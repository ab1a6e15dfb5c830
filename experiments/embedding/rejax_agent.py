"""Groups ten CartPoles by a PPO agent of Rejax, on an environment of Gymnax.

The tasks differ in the force of a push, which is reversed in five of them and is not
observed, so that one agent for all of them is torn. Rejax trains it, and also collects
each task's transitions and estimates their advantages. The one argument is the seed.
"""

import sys

import jax
import numpy as np
import rejax
from gymnax.environments.classic_control.cartpole import CartPole, EnvParams
from sklearn.metrics import normalized_mutual_info_score

import pgx_jax as pge

FORCES = np.array([8.0, 9.0, 10.0, 11.0, 12.0, -8.0, -9.0, -10.0, -11.0, -12.0])  # N
KNOWN_GROUPS = FORCES < 0


class CartPoles(CartPole):
    """CartPole, each episode with one of the forces in `params.force_mag`."""

    def reset_env(self, key, params):
        state_key, force_key = jax.random.split(key)
        observation, state = super().reset_env(state_key, params)
        return observation, (state, jax.random.choice(force_key, params.force_mag))

    def step_env(self, key, state, action, params):
        state, force = state
        params = params.replace(force_mag=force)
        observation, state, *rest = super().step_env(key, state, action, params)
        return observation, (state, force), *rest


def main(seed=0, total_timesteps=65_536):
    train_key, collect_key, subset_key, key = jax.random.split(jax.random.key(seed), 4)
    agent = rejax.PPO.create(
        env=CartPoles(),
        env_params=EnvParams(force_mag=FORCES),
        total_timesteps=total_timesteps,
        skip_initial_evaluation=True,
    )
    trained, _ = jax.jit(agent.train)(train_key)

    def collect(force, key):
        """Transitions of one task."""
        one_task = agent.replace(env_params=EnvParams(force_mag=force[None]))
        state = one_task.init_state(key)
        state = state.replace(actor_ts=trained.actor_ts, critic_ts=trained.critic_ts)
        state, steps = one_task.collect_trajectories(state)
        last_value = agent.critic.apply(state.critic_ts.params, state.last_obs)
        advantage, _ = one_task.calculate_gae(steps, last_value)
        batch = pge.Transitions(steps.obs, steps.action, advantage)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    collect_keys = jax.random.split(collect_key, len(FORCES))
    batch = jax.jit(jax.vmap(collect))(FORCES, collect_keys)

    def log_prob_fn(params, observation, action):
        method = agent.actor.log_prob_entropy
        return agent.actor.apply(params, observation, action, method=method)[0]

    params = trained.actor_ts.params
    subsets = pge.sample_subsets(
        subset_key, len(FORCES), num_subsets=120, subset_size=3
    )
    estimates = pge.estimate_subsets(log_prob_fn, params, batch, subsets, key=key)
    affinity = pge.task_affinity(estimates)
    groups = pge.cluster_tasks(affinity)

    print("groups:", groups.labels)
    print("affinity:", np.asarray(affinity.matrix).round(1), sep="\n")
    print("NMI:", normalized_mutual_info_score(KNOWN_GROUPS, groups.labels))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
