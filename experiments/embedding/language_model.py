"""Groups nine rewards of a small language model: one action is a whole continuation.

A recurrent network is pretrained on random walks over ten tokens in a circle. A reward
counts the steps of one kind (back, none or forth) in one third of what it writes after
a prompt; rewards for one kind belong together. The one argument is the seed.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.metrics import normalized_mutual_info_score

import pgx_jax as pge

NUM_TOKENS, LENGTH = 10, 9
STEPS = np.random.default_rng(0).choice([-1, 0, 1], size=(1000, 1 + LENGTH))
CORPUS = STEPS.cumsum(axis=1) % NUM_TOKENS  # the first token of a text is its prompt
WANTED_STEPS = np.repeat([-1, 0, 1], 3)
COUNTED = np.arange(LENGTH) // 3 == np.tile([0, 1, 2], 3)[:, None]
MODEL = nn.Sequential(  # from tokens to the logits of each next token
    [nn.Embed(NUM_TOKENS, 32), nn.RNN(nn.SimpleCell(32)), nn.Dense(NUM_TOKENS)]
)


def log_prob_fn(params, prompt, continuation):
    text = jnp.concatenate([prompt, continuation], axis=-1)
    logits = MODEL.apply(params, text[..., :-1])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, continuation)
    return -loss.sum(axis=-1)  # over the tokens


@jax.jit
def pretrain(state):
    def loss(params):
        return -log_prob_fn(params, CORPUS[:, :1], CORPUS[:, 1:]).mean()

    return state.apply_gradients(grads=jax.grad(loss)(state.params))


@jax.jit
def generate(params, prompt, key):
    def step(i, text):
        logits = MODEL.apply(params, text)[:, i]
        token = jax.random.categorical(jax.random.fold_in(key, i), logits)
        return text.at[:, i + 1].set(token)

    return jax.lax.fori_loop(0, LENGTH, step, jnp.pad(prompt, ((0, 0), (0, LENGTH))))


def main(seed=0, num_updates=100):
    init_key, sample_key, subset_key, key = jax.random.split(jax.random.key(seed), 4)
    params = jax.jit(MODEL.init)(init_key, CORPUS)
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-2))
    for _ in range(num_updates):
        state = pretrain(state)

    text = generate(state.params, CORPUS[:, :1], sample_key)
    wanted = jnp.diff(text) % NUM_TOKENS == WANTED_STEPS[:, None, None] % NUM_TOKENS
    reward = wanted.mean(axis=-1, where=COUNTED[:, None])  # [task, sample]
    advantage = reward - reward.mean(axis=1, keepdims=True)
    # Leading axes [1, sample]: all rewards are of the same texts.
    batch = pge.Transitions(text[None, :, :1], text[None, :, 1:], advantage)
    subsets = pge.sample_subsets(subset_key, len(reward), num_subsets=84, subset_size=3)
    estimates = pge.estimate_subsets(log_prob_fn, state.params, batch, subsets, key=key)
    affinity = pge.task_affinity(estimates)
    groups = pge.cluster_tasks(affinity)

    print("groups:", groups.labels)
    print("affinity:", np.asarray(affinity.matrix).round(1), sep="\n")
    print("NMI:", normalized_mutual_info_score(WANTED_STEPS, groups.labels))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
