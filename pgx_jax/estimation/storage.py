"""Estimates on disk, as one NumPy archive."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np

from pgx_jax.types import SubsetEstimates

FORMAT = 1


def save_estimates(path: str | os.PathLike[str], estimates: SubsetEstimates) -> None:
    """Writes estimates to a compressed `.npz` file, which NumPy alone can read.

        pge.save_estimates("estimates.npz", estimates)
        estimates = pge.load_estimates("estimates.npz")

    Args:
      path: of the file; written as it is given, whatever its suffix.
      estimates: fields that are None are left out.

    Raises:
      OSError: the file cannot be written.
    """
    arrays: dict[str, Any] = {
        name: np.asarray(jax.device_get(value))
        for name, value in estimates._asdict().items()
        if value is not None
    }
    with open(path, "wb") as file:  # savez would append a suffix to a path
        np.savez_compressed(file, format=np.int32(FORMAT), **arrays)


def load_estimates(path: str | os.PathLike[str]) -> SubsetEstimates:
    """Reads what `save_estimates` wrote; NumPy arrays, bit for bit.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file holds no estimates of this format; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise ValueError(f"{os.fspath(path)!r} is no file of estimates") from error
    found = arrays.pop("format", None)
    required = [x for x in SubsetEstimates._fields if x not in _OPTIONAL]
    missing = [name for name in required if name not in arrays]
    unknown = [name for name in arrays if name not in SubsetEstimates._fields]
    if found is None or int(found) != FORMAT or missing or unknown:
        raise ValueError(
            f"{os.fspath(path)!r} is no file of estimates of format {FORMAT}: format "
            f"{found}, missing {missing}, unknown {unknown}"
        )
    return SubsetEstimates(**arrays)


_OPTIONAL = frozenset(SubsetEstimates._field_defaults)
