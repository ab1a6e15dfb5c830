"""Estimates come back from disk as they were, and other files are refused."""

import numpy as np
import pytest

import pgx_jax as pge


@pytest.fixture
def estimates():
    rng = np.random.default_rng(0)
    subsets = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
    numbers = rng.normal(size=(3, 5)).astype(np.float32)
    return pge.SubsetEstimates(
        subsets=subsets,
        scores=np.where(subsets, rng.normal(size=(3, 3)), 0.0).astype(np.float32),
        delta=numbers,
        loss=numbers[:, 0],
        gradient_norm=numbers[:, 1],
        num_iterations=np.arange(3, dtype=np.int32),
        converged=np.array([True, False, True]),
        relative_distance=numbers[:, 2],
    )


def test_every_field_comes_back_bit_for_bit(tmp_path, estimates):
    path = tmp_path / "estimates"
    pge.save_estimates(path, estimates)
    loaded = pge.load_estimates(path)
    for name, value in estimates._asdict().items():
        found = getattr(loaded, name)
        if value is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, value)
            assert found.dtype == value.dtype
    np.testing.assert_array_equal(
        pge.task_affinity(loaded).matrix, pge.task_affinity(estimates).matrix
    )


def test_other_files_are_refused_by_name(tmp_path, estimates):
    path = tmp_path / "estimates.npz"
    np.savez(path, format=np.int32(1), scores=estimates.scores)
    with pytest.raises(ValueError, match=r"estimates\.npz.*missing.*subsets"):
        pge.load_estimates(path)
    pge.save_estimates(path, estimates)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"estimates\.npz.*no file of estimates"):
        pge.load_estimates(path)
    path.write_text("not an archive")
    with pytest.raises(ValueError, match=r"estimates\.npz.*no file of estimates"):
        pge.load_estimates(path)
    with pytest.raises(FileNotFoundError):
        pge.load_estimates(tmp_path / "absent.npz")


# What an archive may hold in place of a field, and what the message says of it.
MUTATIONS = [
    ("subsets", lambda x: x.astype(int), "subsets must hold truth values"),
    ("subsets", lambda x: x[:2], "scores must have m = 2"),
    ("subsets", lambda x: x[0], "must have axes"),
    ("subsets", lambda x: x & False, "subsets must not be empty"),
    ("scores", lambda x: x.astype(str), "scores must hold floats, got <U"),
    ("scores", lambda x: x * np.nan, "scores must be finite where status is OK"),
    ("scores", lambda x: x + np.inf, "scores must be finite"),
    ("scores", lambda x: x[:, :2], "scores must have n = 3"),
    ("scores", lambda x: x[..., None], "scores must have axes"),
    ("scores", lambda x: x.astype(complex), "scores must hold floats"),
    ("delta", lambda x: x[:, :0], "delta must have d = at least 1"),
    ("delta", lambda x: x * np.nan, "delta must be finite"),
    ("loss", lambda x: x[:, None], "loss must have axes"),
    ("loss", lambda x: x * np.nan, "loss must be finite"),
    ("num_iterations", lambda x: x / 2, "num_iterations must hold integers"),
    ("converged", lambda x: x.astype(np.float32), "converged must hold truth values"),
    ("relative_distance", lambda x: x[:1], "relative_distance must have m = 3"),
    ("resampled_scores", lambda x: np.zeros((2, 3, 2)), "must have n = 3"),
    ("resampled_scores", lambda x: np.full((2, 3, 3), np.nan), "must be finite"),
    ("half_scores", lambda x: np.zeros((2, 3, 3, 3)), "half_scores must have h = 2"),
    ("part_scores", lambda x: np.zeros((2, 3, 3)), "part_scores must have axes"),
    ("status", lambda x: np.zeros(3), "status must hold integers"),
    ("status", lambda x: np.zeros(2, int), "status must have m = 3"),
    ("format", lambda x: np.arange(2), "of format 1, but of"),
    ("format", lambda x: np.int32(2), "of format 1, but of 2"),
    ("surprise", lambda x: np.zeros(3), "unknown .'surprise'"),
]


@pytest.mark.parametrize(("field", "mutate", "message"), MUTATIONS)
def test_archives_of_other_arrays_are_refused_by_field(
    tmp_path, estimates, field, mutate, message
):
    path = tmp_path / "mutated.npz"
    pge.save_estimates(path, estimates)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[field] = mutate(arrays.get(field))
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"mutated.npz.*{message}") as error:
        pge.load_estimates(path)
    assert "\n" not in str(error.value)


def test_scores_of_subsets_that_failed_may_be_unknown(tmp_path, estimates):
    failed = estimates._replace(
        scores=np.where(estimates.subsets, [[np.nan], [1.0], [1.0]], 0.0),
        status=np.array([6, 0, 0], np.int32),
    )
    path = tmp_path / "failed.npz"
    pge.save_estimates(path, failed)
    np.testing.assert_array_equal(pge.load_estimates(path).scores, failed.scores)


def test_estimates_of_several_keys_come_back(tmp_path, estimates):
    path = tmp_path / "several.npz"
    several = type(estimates)(
        *(x if x is None else np.stack([x, x]) for x in estimates)
    )
    resampled = np.stack([several.scores] * 4, axis=1)
    pge.save_estimates(path, several._replace(resampled_scores=resampled))
    assert pge.load_estimates(path).resampled_scores.shape == (2, 4, 3, 3)
