"""Groups nine reaching tasks by a Gaussian policy in Flax NNX.

Each task is to reach a goal in the plane, by one move from anywhere. Three goals lie in
each of three directions, and no observation holds the goal. One policy is trained for
all tasks, by REINFORCE. The one argument is the seed.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.metrics import normalized_mutual_info_score

import pgx_jax as pge

KNOWN_GROUPS = np.repeat([0, 1, 2], 3)
ANGLES = KNOWN_GROUPS * 2 * np.pi / 3 + np.tile([-0.3, 0.0, 0.3], 3)  # rad
GOALS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)[:, None]  # m, [n, 1, 2]


class Policy(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(2, 32, rngs=rngs)
        self.mean = nnx.Linear(32, 2, rngs=rngs)
        self.log_std = nnx.Param(jnp.zeros(2))

    def __call__(self, observation):
        return self.mean(nnx.tanh(self.hidden(observation))), jnp.exp(self.log_std[...])

    def log_prob(self, observation, action):
        return jax.scipy.stats.norm.logpdf(action, *self(observation)).sum(axis=-1)


@nnx.jit
def rollout(policy, rngs, num_episodes=1000):
    start = rngs.uniform((len(GOALS), num_episodes, 2), minval=-1.0)
    mean, std = policy(start)
    action = mean + std * rngs.normal(mean.shape)
    reward = -jnp.linalg.norm(start + action - GOALS, axis=-1)
    advantage = reward - reward.mean(axis=1, keepdims=True)
    return pge.Transitions(observation=start, action=action, advantage=advantage)


@nnx.jit
def update(policy, optimizer, batch):
    def loss(policy):
        log_prob = policy.log_prob(batch.observation, batch.action)
        return -(log_prob * batch.advantage).mean()

    optimizer.update(policy, nnx.grad(loss)(policy))


def main(seed=0, num_updates=200):
    rngs = nnx.Rngs(seed)
    policy = Policy(rngs)
    optimizer = nnx.Optimizer(policy, optax.adam(1e-2), wrt=nnx.Param)
    for _ in range(num_updates):
        update(policy, optimizer, rollout(policy, rngs))
    graph, params = nnx.split(policy)

    def log_prob_fn(params, observation, action):
        return nnx.merge(graph, params).log_prob(observation, action)

    batch = rollout(policy, rngs)
    subsets = pge.sample_subsets(rngs(), len(GOALS), num_subsets=84, subset_size=3)
    estimates = pge.estimate_subsets(log_prob_fn, params, batch, subsets, key=rngs())
    affinity = pge.task_affinity(estimates)
    groups = pge.cluster_tasks(affinity)

    print("groups:", groups.labels)
    print("affinity:", np.asarray(affinity.matrix).round(1), sep="\n")
    print("NMI:", normalized_mutual_info_score(KNOWN_GROUPS, groups.labels))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
