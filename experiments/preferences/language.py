"""A small language of words, a transformer that writes it, and sets of preferences.

A text is a word for a prompt and an answer of several words; tokens are letters, a
space and an end. A style likes answers that are long or short, have many or few vowels,
and whose letters rise or fall in the alphabet. The four styles are the corners of a
tetrahedron: any two agree in one of the three and differ in two, and the four cancel
out. A set of preferences has a style, and differs from others of that style by what is
no part of it: a letter and doubled letters that it likes or dislikes too, the prompts,
how freely answers are sampled, the order in which pairs are shown, and its mistakes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import pgx_jax as pge

LETTERS = "abcdefghilmnorst"
VOWELS = np.array([x in "aeio" for x in LETTERS])
SPACE, END = len(LETTERS), len(LETTERS) + 1
NUM_TOKENS = len(LETTERS) + 2
PROMPT, ANSWER = 4, 14  # a word of three letters and a space; tokens at most
STYLES = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
# What is no part of a style counts so much, beside a style's 1, and mistakes are those
# of a Bradley-Terry model of this scale.
NUISANCE, NOISE = 0.7, 0.3


class Transformer(nn.Module):
    """From tokens [..., T] to the logits of each next token; [..., T, tokens]."""

    width: int = 32
    num_layers: int = 2
    num_heads: int = 2

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(NUM_TOKENS, self.width)(tokens)
        x = x + nn.Embed(PROMPT + ANSWER, self.width)(jnp.arange(tokens.shape[-1]))
        causal = nn.make_causal_mask(tokens)
        for _ in range(self.num_layers):
            x = x + nn.MultiHeadAttention(self.num_heads)(
                nn.LayerNorm()(x), mask=causal
            )
            hidden = nn.Dense(2 * self.width)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(hidden))
        return nn.Dense(NUM_TOKENS)(nn.LayerNorm()(x))


MODEL = Transformer()


def log_prob_fn(params, prompt, answer):
    """Of an answer, up to its first end; [...]."""
    text = jnp.concatenate([prompt, answer], axis=-1)
    logits = MODEL.apply(params, text[..., :-1])[..., PROMPT - 1 :, :]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, answer)
    return -jnp.sum(loss, axis=-1, where=is_written(answer))


def is_written(answer):
    """Tokens up to the first end, it among them."""
    return jnp.cumsum(answer == END, axis=-1) - (answer == END) == 0


class Language(NamedTuple):
    """Words of three letters that prompts are, and texts to pretrain on."""

    words: np.ndarray  # [words, 3]
    prompts: np.ndarray  # [texts, PROMPT]
    answers: np.ndarray  # [texts, ANSWER]


def make_language(seed: int, num_words: int = 60, num_texts: int = 2048) -> Language:
    """Answers of one to four words of two to four letters, drawn from a lexicon."""
    rng = np.random.default_rng(seed)
    words = rng.integers(len(LETTERS), size=(num_words, 4))
    sizes = rng.integers(2, 5, size=num_words)

    def write():
        chosen = rng.integers(num_words, size=rng.integers(1, 5))
        tokens = [x for w in chosen for x in (*words[w, : sizes[w]], SPACE)][:-1]
        return (tokens + [END] * ANSWER)[:ANSWER]

    answers = np.array([write() for _ in range(num_texts)])
    prompts = make_prompts(words[rng.integers(num_words, size=num_texts), :3])
    return Language(words[:, :3], prompts, answers)


def make_prompts(words: np.ndarray) -> np.ndarray:
    """Words with a space after each; [..., PROMPT]."""
    return np.pad(words, [(0, 0)] * (words.ndim - 1) + [(0, 1)], constant_values=SPACE)


def pretrain(language: Language, key: jax.Array, num_updates: int):
    """A transformer that writes answers as the language has them."""
    init_key, batch_key = jax.random.split(key)
    params = jax.jit(MODEL.init)(init_key, language.prompts[:1])
    optimizer = optax.adam(3e-3)

    def loss(params, rows):
        return -log_prob_fn(params, prompts[rows], answers[rows]).mean()

    prompts, answers = jnp.asarray(language.prompts), jnp.asarray(language.answers)

    @jax.jit
    def train(params, batch_key):
        def update(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (128,), 0, len(prompts))
            updates, state = optimizer.update(jax.grad(loss)(params, rows), state)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(batch_key, num_updates)
        return jax.lax.scan(update, (params, optimizer.init(params)), keys)[0][0]

    return train(params, batch_key)


@jax.jit
def write_answers(params, prompt, temperature, key):
    """Samples an answer to each prompt; int [N, ANSWER].

    Args:
      params: of the transformer.
      prompt: int [N, PROMPT].
      temperature: float [N].
      key: of the draw.
    """

    def step(i, text):
        logits = MODEL.apply(params, text)[:, PROMPT - 1 + i]
        drawn = jax.random.fold_in(key, i)
        token = jax.random.categorical(drawn, logits / temperature[:, None])
        ended = (text[:, PROMPT - 1 + i] == END) & (i > 0)
        return text.at[:, PROMPT + i].set(jnp.where(ended, END, token))

    text = jnp.pad(prompt, ((0, 0), (0, ANSWER)), constant_values=END)
    return jax.lax.fori_loop(0, ANSWER, step, text)[:, PROMPT:]


def traits(answer: np.ndarray) -> np.ndarray:
    """Length, share of vowels and how far letters rise; float [..., 3]."""
    letter = answer < len(LETTERS)
    vowel = letter & VOWELS[np.where(letter, answer, 0)]
    pair = letter[..., 1:] & letter[..., :-1]
    rise = np.sign(np.diff(answer, axis=-1)) * pair
    return np.stack(
        [
            (answer != END).sum(-1),
            vowel.sum(-1) / np.maximum(letter.sum(-1), 1),
            rise.sum(-1) / np.maximum(pair.sum(-1), 1),
        ],
        axis=-1,
    ).astype(float)


def habits(answer: np.ndarray) -> np.ndarray:
    """Prevalence of every letter, and of doubled letters; float [..., letters + 1]."""
    letters = answer[..., None] == np.arange(len(LETTERS))
    doubled = (answer[..., 1:] == answer[..., :-1]) & (answer[..., 1:] < len(LETTERS))
    return np.concatenate(
        [letters.mean(axis=-2), doubled.mean(axis=-1, keepdims=True)], axis=-1
    )


class PreferenceSets(NamedTuple):
    """Sets of preferences, [n sets, N pairs, ...], and the style of each."""

    prompt: np.ndarray
    first: np.ndarray
    second: np.ndarray
    label: np.ndarray  # 1 where the first is preferred
    style: np.ndarray  # [n]

    def transitions(self, rows: slice) -> pge.Transitions:
        """Some pairs of every set, as the estimator takes them."""
        arrays = (self.prompt, self.first, self.second, self.label)
        prompt, first, second, label = (x[:, rows] for x in arrays)
        return pge.preference_transitions(prompt, first, second, label=label)

    def style_accuracy(self) -> float:
        """The share of pairs that the style by itself ranks as the label does."""
        margin = _difference(traits, self.first, self.second)
        rank = np.einsum("ntf,nf->nt", margin, STYLES[self.style]) > 0
        return float((rank == self.label).mean())


def _difference(describe, first, second) -> np.ndarray:
    """What describes two answers, subtracted, with a standard deviation of 1."""
    values = describe(first) - describe(second)
    return values / np.maximum(values.std(axis=(0, 1)), 1e-6)


def make_sets(params, language: Language, key, sets_per_style: int, num_pairs: int):
    """`sets_per_style` sets of each of the four styles, in random order."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    num_sets = len(STYLES) * sets_per_style
    style = rng.permutation(np.arange(num_sets) % len(STYLES))
    shape = (num_sets, num_pairs)
    topics = rng.integers(len(language.words), size=(num_sets, 10))
    drawn = np.take_along_axis(topics, rng.integers(10, size=shape), axis=1)
    prompt = make_prompts(language.words[drawn])
    temperature = np.repeat(rng.uniform(0.8, 1.4, num_sets), num_pairs)
    write = functools.partial(write_answers, params, prompt.reshape(-1, PROMPT))
    temperature = temperature.astype(np.float32)
    first, second = (
        np.asarray(write(temperature, k)).reshape(*shape, ANSWER)
        for k in jax.random.split(key)
    )

    likes = STYLES[style] / np.sqrt(STYLES.shape[1])
    own = np.zeros((num_sets, len(LETTERS) + 1))
    own[np.arange(num_sets), rng.integers(len(LETTERS), size=num_sets)] = 1.0
    own[:, -1] = 1.0
    own *= NUISANCE * rng.choice([-1.0, 1.0], size=own.shape) / np.sqrt(2.0)

    margin = np.einsum("ntf,nf->nt", _difference(traits, first, second), likes)
    margin += np.einsum("ntf,nf->nt", _difference(habits, first, second), own)
    label = margin + NOISE * rng.logistic(size=shape) > 0
    return PreferenceSets(prompt, first, second, label, style)
