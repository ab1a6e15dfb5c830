"""Estimates on disk, as one NumPy archive."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np

from pgx_jax.arguments import as_path
from pgx_jax.types import SubsetEstimates

FORMAT = 1
# The kind of dtype of every field, and its last axes: resamples, splits, halves, parts,
# m subsets, n tasks and d features. Axes before these are of estimates under vmap.
_AXES = {
    "subsets": ("b", "mn"),
    "scores": ("f", "mn"),
    "delta": ("f", "md"),
    "loss": ("f", "m"),
    "gradient_norm": ("f", "m"),
    "num_iterations": ("i", "m"),
    "converged": ("b", "m"),
    "relative_distance": ("f", "m"),
    "standard_error": ("f", "mn"),
    "effective_sample_size": ("f", "mn"),
    "resampled_scores": ("f", "rmn"),
    "half_scores": ("f", "shmn"),
    "part_scores": ("f", "shpmn"),
    "status": ("i", "m"),
}
# What the status of a subset vouches for.
_FINITE = ("scores", "delta", "loss", "gradient_norm", "resampled_scores")
_OPTIONAL = frozenset(SubsetEstimates._field_defaults)
_NUMBERS = {"b": "truth values", "f": "floats", "i": "integers"}


def save_estimates(path: str | os.PathLike[str], estimates: SubsetEstimates) -> None:
    """Writes estimates to a compressed `.npz` file, which NumPy alone can read.

        pge.save_estimates("estimates.npz", estimates)
        estimates = pge.load_estimates("estimates.npz")

    Args:
      path: of the file; written as it is given, whatever its suffix.
      estimates: fields that are None are left out.

    Raises:
      OSError: the file cannot be written.
      ValueError: `path` is none, or `estimates` are none: a field is missing, of
        another dtype or shape, or not finite where its `status` is OK.
    """
    path = as_path("path", path)
    if not isinstance(estimates, SubsetEstimates):
        kind = type(estimates).__name__
        raise ValueError(f"estimates must be SubsetEstimates, got {kind}")
    arrays: dict[str, Any] = {
        name: np.asarray(jax.device_get(value))
        for name, value in estimates._asdict().items()
        if value is not None
    }
    if problem := _find_problem(arrays):
        raise ValueError(f"estimates cannot be written: {problem}")
    with open(path, "wb") as file:  # savez would append a suffix to a path
        np.savez_compressed(file, format=np.int32(FORMAT), **arrays)


def load_estimates(path: str | os.PathLike[str]) -> SubsetEstimates:
    """Reads what `save_estimates` wrote; NumPy arrays, bit for bit.

    Raises:
      OSError: the file cannot be read.
      ValueError: `path` is none, or the file holds no estimates of this format, or
        such as `save_estimates` refuses; the message names the file.
    """
    path = as_path("path", path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise ValueError(f"{path!r} is no file of estimates") from error
    found = arrays.pop("format", None)
    if found is None or found.shape != () or found != FORMAT:
        raise ValueError(
            f"{path!r} is no file of estimates of format {FORMAT}, but of {found}"
        )
    if problem := _find_problem(arrays):
        raise ValueError(f"{path!r} holds no estimates: {problem}")
    return SubsetEstimates(**arrays)


def _find_problem(arrays: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the fields of estimates; None where nothing is."""
    missing = [x for x in _AXES if x not in arrays and x not in _OPTIONAL]
    unknown = [name for name in arrays if name not in _AXES]
    if missing or unknown:
        return f"missing {missing}, unknown {unknown}"
    subsets = arrays["subsets"]
    batch, sizes = subsets.shape[:-2], {"h": 2}
    for name, array in arrays.items():
        kind, axes = _AXES[name]
        if array.dtype.kind != kind:
            return f"{name} must hold {_NUMBERS[kind]}, got {array.dtype}"
        lengths = array.shape[len(batch) :]
        if array.shape[: len(batch)] != batch or len(lengths) != len(axes):
            return f"{name} must have axes [{', '.join(axes)}], got {array.shape}"
        for axis, length in zip(axes, lengths, strict=True):
            if sizes.setdefault(axis, length) != length or not length:
                return (
                    f"{name} must have {axis} = {sizes[axis] or 'at least 1'} in its "
                    f"shape [{', '.join(axes)}], got {array.shape}"
                )
    if not subsets.any(axis=-1).all():
        return "subsets must not be empty"
    status = arrays.get("status")
    known = np.ones(subsets.shape[:-1], bool) if status is None else status == 0
    looked_at = {"mn": subsets & known[..., None], "m": known, "md": known[..., None]}
    for name in _FINITE:
        if name not in arrays:
            continue
        axes = _AXES[name][1]
        mask = looked_at[axes[axes.index("m") :]]
        for _ in range(axes.index("m")):  # resamples stand behind the axes of a batch
            mask = np.expand_dims(mask, len(batch))
        if not np.isfinite(
            arrays[name][np.broadcast_to(mask, arrays[name].shape)]
        ).all():
            return f"{name} must be finite where status is OK"
    return None
