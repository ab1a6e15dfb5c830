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
