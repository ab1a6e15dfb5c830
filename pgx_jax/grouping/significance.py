"""Whether groups are more than chance: a test against one group.

The best of many partitions looks better than one group even where the affinity is
noise. So the gain of the best partition over one group is compared with the gains that
the same search finds on matrices without groups.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.05
NUM_DRAWS = 199
SEED = 0
# Fewer tasks have too few arrangements of pairs for any to be rare.
FEWEST_TASKS = 5
# Entries of the matrices that are searched at once: 32 MB in float64.
_BLOCK_ENTRIES = 2**22


def gain_p_value(
    matrix: np.ndarray,
    penalty: float,
    deviations: np.ndarray | None = None,
    mean: float | None = None,
) -> float:
    """How often matrices without groups gain as much by groups as the affinity does.

    Without `deviations` the null hypothesis is that pairs are exchangeable: what is
    left of U_ij without effects a_i + a_j of single tasks, on which no partition
    depends, is shuffled among pairs. With them it is that all pairs have one affinity,
    and `deviations` is the noise of its estimate.

    Args:
      matrix: U, symmetric; float64 [n, n].
      penalty: what one more group costs.
      deviations: noise of U, symmetric; float64 [draws, n, n].
      mean: the one affinity of all pairs; their mean in U if None.

    Returns:
      The share of the null hypothesis's draws, the affinity itself among them, whose
      gain is at least that of the affinity, in (0, 1]. The same number every time. 1
      without deviations where n < 5: no arrangement of so few pairs is rare.

    Source: the permutation test with the observation counted (Davison and Hinkley,
    1997, section 4.3).
    """
    num_tasks = len(matrix)
    if num_tasks < 2 or (deviations is None and num_tasks < FEWEST_TASKS):
        return 1.0
    pairs = np.triu_indices(num_tasks, 1)
    if deviations is None:
        effects = _task_effects(matrix)
        matrix = matrix - effects[:, None] - effects
        nulls = _shuffle(matrix, NUM_DRAWS)
    else:
        nulls = deviations + (matrix[pairs].mean() if mean is None else mean)
        nulls[:, *np.diag_indices(num_tasks)] = np.diag(matrix)
    observed = greedy_gain(matrix[None], penalty)[0]
    size = max(1, _BLOCK_ENTRIES // matrix.size)
    gains = np.concatenate(
        [greedy_gain(nulls[i : i + size], penalty) for i in range(0, len(nulls), size)]
    )
    slack = 1e-9 * num_tasks * np.abs(matrix).max()
    return float((1 + np.sum(gains >= observed - slack)) / (1 + len(gains)))


def greedy_gain(matrices: np.ndarray, penalty: float) -> np.ndarray:
    """What the best of the partitions that greedy merging visits gains over one group.

    From tasks alone, the two groups are merged whose union raises <U, X> most, until
    one group is left; of every partition on the way, <U, X> less the penalty of its
    groups is compared with that of one group.

    Args:
      matrices: symmetric; float64 [b, n, n].
      penalty: what one more group costs.

    Returns:
      Not negative; float64 [b].
    """
    num_draws, num_tasks, _ = matrices.shape
    draw = np.arange(num_draws)
    between = matrices.copy()  # sums of the entries between two groups
    within = np.einsum("bii->bi", between).copy()
    size = np.ones((num_draws, num_tasks))
    gain = _merge_gain(within, within, size, size, between)
    gain[:, *np.diag_indices(num_tasks)] = -np.inf
    value = within.sum(axis=1) - penalty * num_tasks
    best = value
    for _ in range(num_tasks - 1):
        flat = gain.reshape(num_draws, -1).argmax(axis=1)
        kept, merged = flat // num_tasks, flat % num_tasks
        value = value + gain[draw, kept, merged] + penalty
        best = np.maximum(best, value)
        within[draw, kept] += within[draw, merged] + 2 * between[draw, kept, merged]
        between[draw, kept] += between[draw, merged]
        between[draw, :, kept] = between[draw, kept]
        size[draw, kept] += size[draw, merged]
        row = _merge_gain(
            within[draw, kept][:, None],
            within,
            size[draw, kept][:, None],
            size,
            between[draw, kept][:, None],
        )[:, 0]
        # A group that was merged away stays out.
        row[np.isneginf(gain[draw, kept])] = -np.inf
        row[draw, merged] = -np.inf
        gain[draw, kept] = row
        gain[draw, :, kept] = row
        gain[draw, merged] = -np.inf
        gain[draw, :, merged] = -np.inf
    return best - value


def _merge_gain(within_a, within_b, size_a, size_b, between) -> np.ndarray:
    """What <U, X> gains when a and b become one group; [..., a, b]."""
    within_a, size_a = within_a[..., :, None], size_a[..., :, None]
    within_b, size_b = within_b[..., None, :], size_b[..., None, :]
    union = (within_a + within_b + 2 * between) / (size_a + size_b)
    return union - within_a / size_a - within_b / size_b


def _task_effects(matrix: np.ndarray) -> np.ndarray:
    """a_i of the least-squares fit U_ij = a_i + a_j off the diagonal; [..., n]."""
    num_tasks = matrix.shape[-1]
    rows = matrix.sum(axis=-1) - np.einsum("...ii->...i", matrix)
    mean = rows.sum(axis=-1, keepdims=True) / (2 * (num_tasks - 1))
    return (rows - mean) / (num_tasks - 2)


def _shuffle(residuals: np.ndarray, num_draws: int) -> np.ndarray:
    """Shuffles pairs; the diagonal, task effects (none) and the variance stay."""
    num_tasks = len(residuals)
    rows, columns = np.triu_indices(num_tasks, 1)
    values = residuals[rows, columns]
    rng = np.random.default_rng(SEED)
    shuffled = rng.permuted(np.tile(values, (num_draws, 1)), axis=1)
    nulls = np.zeros((num_draws, num_tasks, num_tasks))
    nulls[:, rows, columns] = nulls[:, columns, rows] = shuffled
    effects = _task_effects(nulls)
    nulls -= effects[:, :, None] + effects[:, None, :]
    drawn = np.sum(nulls[:, rows, columns] ** 2, axis=1)
    ratio = np.sum(values**2) / np.where(drawn > 0, drawn, 1.0)
    nulls *= np.sqrt(ratio)[:, None, None]
    nulls[:, *np.diag_indices(num_tasks)] = np.diag(residuals)
    return nulls
