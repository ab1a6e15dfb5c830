"""Preference pairs against DPO's and IPO's losses, differentiated by JAX."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgx_jax as pge

NUM_TASKS, NUM_PAIRS, LENGTH, NUM_TOKENS, BETA = 2, 40, 5, 3, 0.3
KEY = jax.random.key(3)
SUBSETS = np.array([[1, 0], [0, 1], [1, 1]], bool)


def sequence_log_prob(params, prompt, answer):
    """Of the tokens of an answer, each given the one before it and the prompt."""
    before = jnp.concatenate([prompt[..., -1:], answer[..., :-1]], axis=-1)
    hidden = jnp.tanh(params["embed"][before] + params["prompt"][prompt[..., :1]])
    log_probs = jax.nn.log_softmax(hidden @ params["out"])
    return jnp.take_along_axis(log_probs, answer[..., None], -1)[..., 0].sum(-1)


@dataclasses.dataclass(frozen=True)
class Identity:
    """No projection: the columns of P are those of the identity."""

    dim: int

    def column(self, key, params, index):
        leaves, structure = jax.tree.flatten(params)
        ends = np.cumsum([x.size for x in leaves])[:-1]
        parts = jnp.split(jax.nn.one_hot(index, self.dim, dtype=jnp.float32), ends)
        return jax.tree.unflatten(
            structure, [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)]
        )


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(KEY, 3)
    return {
        "embed": jax.random.normal(keys[0], (NUM_TOKENS, 4)),
        "out": jax.random.normal(keys[1], (4, NUM_TOKENS)),
        "prompt": jax.random.normal(keys[2], (NUM_TOKENS, 4)),
    }


@pytest.fixture(scope="module")
def pairs():
    """Prompts and two answers to each; the first has more tokens 0 in task 0."""
    rng = np.random.default_rng(0)
    shape = (NUM_TASKS, NUM_PAIRS)
    prompt = rng.integers(NUM_TOKENS, size=(*shape, 2))
    first, second = rng.integers(NUM_TOKENS, size=(2, *shape, LENGTH))
    fewer = (first[0] == 0).sum(-1) < (second[0] == 0).sum(-1)
    first[0, fewer], second[0, fewer] = second[0, fewer], first[0, fewer]
    return prompt, first, second


@pytest.fixture(scope="module")
def batch(pairs):
    return pge.preference_transitions(*pairs)


LOG_PROB = pge.PreferenceLogProb(sequence_log_prob, BETA)


def margins(params, prompt, chosen, rejected, beta=BETA):
    """h(theta), written out; [N]."""
    return beta * (
        sequence_log_prob(params, prompt, chosen)
        - sequence_log_prob(params, prompt, rejected)
    )


def dpo_loss(params, reference, *pairs):
    change = margins(params, *pairs) - margins(reference, *pairs)
    return -jax.nn.log_sigmoid(change).mean()


def linearized_margins(params, delta, pairs):
    """g . Delta of every pair, by a derivative along Delta; [N]."""
    return jax.jvp(lambda p: margins(p, *pairs), (params,), (delta,))[1]


def flatten(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def unflatten(vector, params):
    leaves, structure = jax.tree.flatten(params)
    parts = jnp.split(vector, np.cumsum([x.size for x in leaves])[:-1])
    return jax.tree.unflatten(
        structure, [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)]
    )


def estimate(params, batch, log_prob=LOG_PROB, subsets=SUBSETS, **settings):
    projection = Identity(sum(x.size for x in jax.tree.leaves(params)))
    return pge.estimate_subsets(
        log_prob, params, batch, subsets, key=KEY, projection=projection, **settings
    )


def test_the_first_step_is_that_of_dpo(params, pairs, batch):
    """The gradient of DPO's loss at the reference is -1/2 the mean of g."""
    found = pge.task_gradients(LOG_PROB, params, batch)
    for task in range(NUM_TASKS):
        of_task = [x[task] for x in pairs]
        gradient = jax.grad(dpo_loss)(params, params, *of_task)
        np.testing.assert_allclose(
            -0.5 * found[task], flatten(gradient), rtol=1e-4, atol=1e-6
        )


def test_scores_and_solutions_are_those_of_dpo_linearized(params, pairs, batch):
    estimates = estimate(params, batch, l2=0.5)
    features = []
    for task in range(NUM_TASKS):
        of_task = [x[task] for x in pairs]
        jacobian = jax.jacobian(lambda p, x=of_task: margins(p, *x))(params)
        features.append(
            np.concatenate(
                [np.reshape(x, (NUM_PAIRS, -1)) for x in jax.tree.leaves(jacobian)],
                axis=1,
            )
        )
    squared_norm = np.mean(np.sum(np.square(features), axis=2))
    for row, subset in enumerate(SUBSETS):
        delta = unflatten(estimates.delta[row], params)

        def loss(delta, subset=subset):
            losses = [
                jax.nn.softplus(
                    -linearized_margins(params, delta, [x[task] for x in pairs])
                ).mean()
                for task in np.flatnonzero(subset)
            ]
            # l2 is of features with a mean squared norm of 400.
            size = sum(jnp.sum(x**2) for x in jax.tree.leaves(delta))
            return sum(losses) / len(losses) + 0.25 * squared_norm / 400 * size

        # Each solution is a minimum, and its value that of the regression.
        np.testing.assert_allclose(estimates.loss[row], loss(delta), rtol=1e-5)
        start = flatten(jax.grad(loss)(jax.tree.map(jnp.zeros_like, delta)))
        end = flatten(jax.grad(loss)(delta))
        assert np.linalg.norm(end) < 1e-3 * np.linalg.norm(start)
        for task in np.flatnonzero(subset):
            change = linearized_margins(params, delta, [x[task] for x in pairs])
            fall = np.log(2.0) - jax.nn.softplus(-change).mean()
            np.testing.assert_allclose(estimates.scores[row, task], fall, rtol=1e-4)
    assert np.max(estimates.scores) > 0.05


def test_the_evaluator_is_the_fall_of_the_real_dpo_loss(params, pairs, batch):
    estimates = estimate(
        params, batch, evaluator="logistic_loss", max_relative_distance=0.5
    )
    assert np.max(estimates.relative_distance) == pytest.approx(0.5, rel=1e-3)
    linear = []
    for row, subset in enumerate(SUBSETS):
        delta = unflatten(estimates.delta[row], params)
        moved = jax.tree.map(jnp.add, params, delta)
        for task in np.flatnonzero(subset):
            of_task = [x[task] for x in pairs]
            change = margins(moved, *of_task) - margins(params, *of_task)
            falls = np.log(2.0) - jax.nn.softplus(-change)
            np.testing.assert_allclose(
                estimates.scores[row, task], falls.mean(), rtol=1e-3
            )
            np.testing.assert_allclose(
                estimates.standard_error[row, task],
                np.std(falls, ddof=1) / np.sqrt(NUM_PAIRS),
                rtol=1e-3,
            )
            linear.append(np.mean(linearized_margins(params, delta, of_task) - change))
    # So far away that the approximation is another number.
    assert np.max(np.abs(linear)) > 1e-3
    np.testing.assert_array_equal(
        estimates.effective_sample_size, np.full(SUBSETS.shape, NUM_PAIRS) * SUBSETS
    )


def test_beta_scales_the_solution_and_no_score(params, batch):
    small = pge.PreferenceLogProb(sequence_log_prob, BETA / 4)
    expected, found = (estimate(params, batch, x) for x in (LOG_PROB, small))
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3)
    np.testing.assert_allclose(found.delta, 4 * expected.delta, rtol=1e-2, atol=1e-4)


def test_labels_turn_pairs_round(params, pairs, batch):
    prompt, first, second = pairs
    label = np.random.default_rng(1).integers(2, size=(NUM_TASKS, NUM_PAIRS))
    labeled = pge.preference_transitions(prompt, first, second, label=label)
    for task, pair in np.ndindex(NUM_TASKS, NUM_PAIRS):
        expected = [first[task, pair], second[task, pair]]
        expected = expected if label[task, pair] else expected[::-1]
        for found, answer in zip(labeled.action, expected, strict=True):
            np.testing.assert_array_equal(found[task, pair], answer)
    np.testing.assert_array_equal(labeled.advantage, 1.0)

    # The sign of the label is that of the advantage, and the order changes nothing.
    signed = batch._replace(advantage=np.where(label, 1.0, -1.0).astype(np.float32))
    expected = estimate(params, signed, center_features=False)
    np.testing.assert_allclose(
        estimate(params, labeled).scores, expected.scores, rtol=1e-3, atol=1e-5
    )
    turned = pge.preference_transitions(prompt, second, first, label=1 - label)
    np.testing.assert_array_equal(turned.action[0], labeled.action[0])
    # Random labels teach less than those that follow the tokens.
    assert expected.scores[0, 0] < 0.7 * estimate(params, batch).scores[0, 0]


def test_least_squares_are_ipo_linearized(params, batch):
    estimates = estimate(
        params,
        batch,
        regression="least_squares",
        center_features=False,
        ridge=0.5,
        num_folds=1,
    )
    features = np.stack(
        [
            pge.project_gradients(
                LOG_PROB,
                params,
                batch.observation[task],
                tuple(x[task] for x in batch.action),
                key=KEY,
                projection=Identity(estimates.delta.shape[1]),
            )
            for task in range(NUM_TASKS)
        ]
    ).astype(float)
    ridge = 0.5 * np.mean(features**2)
    for row, subset in enumerate(SUBSETS):
        chosen = features[subset].reshape(-1, features.shape[-1])
        # The minimum of the mean of (g . Delta - 1)^2 + ridge |Delta|^2.
        gram = chosen.T @ chosen / len(chosen) + ridge * np.eye(chosen.shape[1])
        delta = np.linalg.solve(gram, chosen.mean(axis=0))
        np.testing.assert_allclose(estimates.delta[row], delta, rtol=1e-3, atol=1e-4)
        for task in np.flatnonzero(subset):
            fall = 1.0 - np.mean((features[task] @ delta - 1.0) ** 2)
            np.testing.assert_allclose(estimates.scores[row, task], fall, rtol=1e-3)


def test_padding_changes_nothing(params, pairs, batch):
    mask = np.arange(NUM_PAIRS + 3) < NUM_PAIRS
    padded = [np.pad(x, ((0, 0), (0, 3), (0, 0))) for x in pairs]
    padded = pge.preference_transitions(*padded, mask=np.stack([mask, mask]))
    np.testing.assert_allclose(
        estimate(params, padded).scores, estimate(params, batch).scores, rtol=1e-4
    )


def test_equal_ones_compile_once(params, batch):
    again = pge.PreferenceLogProb(sequence_log_prob, BETA)
    assert again == LOG_PROB and hash(again) == hash(LOG_PROB)
    assert again != pge.PreferenceLogProb(sequence_log_prob, 2 * BETA)


def test_answers_may_be_pytrees_of_single_log_probs_inside_jit(params, pairs):
    def of_dict(params, prompt, answer):
        return sequence_log_prob(params, prompt, answer["tokens"])

    @jax.jit
    def scores(prompt, first, second, label):
        batch = pge.preference_transitions(
            prompt, {"tokens": first}, {"tokens": second}, label=label
        )
        return estimate(params, batch, pge.PreferenceLogProb(of_dict, BETA)).scores

    label = np.arange(NUM_PAIRS)[None] % 2 == np.zeros((NUM_TASKS, 1))
    expected = estimate(params, pge.preference_transitions(*pairs, label=label))
    np.testing.assert_allclose(scores(*pairs, label), expected.scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chosen": np.zeros(4, int)}, r"chosen must .* \[n, N, \.\.\.\].* got int"),
        ({"chosen": {}}, r"chosen must hold arrays"),
        ({"prompt": np.zeros((2, 3, 1))}, r"prompt must .*\[2, 4\] of chosen, got"),
        ({"rejected": np.zeros((2, 5, 6), int)}, r"rejected must .* \[2, 4\] of chos"),
        ({"rejected": np.zeros((2, 4, 7), int)}, r"rejected must .*shapes and dtypes"),
        ({"rejected": np.zeros((2, 4, 6))}, r"rejected must .* dtypes.*float64"),
        ({"rejected": (np.zeros((2, 4, 6), int),)}, r"rejected must .* structure"),
        ({"label": np.full((2, 4), -1)}, r"label must hold only 0 and 1"),
        ({"label": np.full((2, 4), 0.5)}, r"label must hold only 0 and 1"),
        ({"label": np.ones(4)}, r"label must have .* \[2, 4\] of chosen"),
        ({"mask": np.ones((4, 2))}, r"mask must have .* \[2, 4\] of chosen"),
    ],
)
def test_bad_pairs_are_refused(changed, message):
    tokens = np.zeros((2, 4, 6), int)
    arguments = {"prompt": tokens, "chosen": tokens, "rejected": tokens} | changed
    with pytest.raises(ValueError, match=message):
        pge.preference_transitions(**arguments)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, "small", [1.0]])
def test_bad_betas_are_refused(beta):
    with pytest.raises(ValueError, match="beta must be"):
        pge.PreferenceLogProb(sequence_log_prob, beta)


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="log_prob_fn must be a function"):
        pge.PreferenceLogProb(3)
