"""The small language, its sets of preferences, and how they are grouped."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.runtime import allow_promotion

FOLDER = Path(__file__).parents[2] / "experiments" / "preferences"


@pytest.fixture(scope="module")
def script(load_script):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield load_script("preferences/group_preferences", ["seeds", "output"])
        sys.modules.pop("language", None)


@pytest.fixture(scope="module")
def language(script):
    return script.language


def encode(language, *texts):
    letters = language.LETTERS + " ."
    padded = [x.ljust(language.ANSWER, ".") for x in texts]
    return np.array([[letters.index(c) for c in x] for x in padded])


def test_traits_are_those_of_texts_counted_by_hand(language):
    answer = encode(language, "abe cab", "tom", "a")
    # Length; vowels among letters; steps up less steps down among pairs of letters.
    expected = [[7, 3 / 6, (1 + 1 - 1 + 1) / 4], [3, 1 / 3, (-1 - 1) / 2], [1, 1, 0]]
    np.testing.assert_allclose(language.traits(answer), expected)


def test_habits_are_those_of_texts_counted_by_hand(language):
    found = language.habits(encode(language, "aab  b"))[0] * language.ANSWER
    np.testing.assert_allclose(found[:3], [2, 2, 0])
    # One doubled letter, and no doubled space or end, of 13 pairs.
    assert found[-1] == pytest.approx(language.ANSWER / (language.ANSWER - 1))


def test_any_two_styles_agree_in_one_trait_of_three(language):
    agreement = (language.STYLES[:, None] == language.STYLES).sum(-1)
    np.testing.assert_array_equal(agreement, 1 + 2 * np.eye(4))
    np.testing.assert_array_equal(language.STYLES.sum(axis=0), 0)


def test_an_answer_ends_at_its_first_end(language):
    """What is written after it has no log-probability."""
    with allow_promotion():
        prompt = encode(language, "tom ")[:1, : language.PROMPT]
        params = language.MODEL.init(jax.random.key(0), prompt)
        answer = encode(language, "ab", "ab")
        answer[1, 5:] = 0  # after the end anything may be
        found = language.log_prob_fn(params, np.repeat(prompt, 2, 0), answer)
        text = jnp.concatenate([np.repeat(prompt, 2, 0), answer], axis=1)
        log_probs = jax.nn.log_softmax(language.MODEL.apply(params, text))
    start = language.PROMPT - 1
    expected = sum(log_probs[0, start + i, answer[0, i]] for i in range(3))
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-5)


@pytest.mark.reliability
def test_groups_by_style_beat_one_policy(script, tmp_path):
    sizes = {
        "sets_per_style": 2,
        "num_pairs": 192,
        "num_pretraining": 100,
        "num_updates": 16,
        "num_subsets": 56,
    }
    with allow_promotion():
        found = script.run_seed(0, **sizes)
    assert np.bincount(found["styles"]).tolist() == [2] * 4
    assert found["nmi"]["known styles"] == pytest.approx(1.0)
    # Two random groupings of eight sets into four pairs agree to about 0.6.
    assert found["nmi"]["estimated groups"] > 0.8
    assert found["num_groups"]["estimated groups"] == 4
    accuracy = found["accuracy"]
    assert accuracy["known styles"] > accuracy["one policy"] + 0.05
    assert accuracy["estimated groups"] > accuracy["random groups"]
    assert 0.6 < found["accuracy_of_style_itself"] < 0.9
    script.draw([found], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
