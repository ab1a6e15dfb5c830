"""How far the loss on unseen data can be above that on the data seen.

Sources: PolicyGradEx (arXiv 2511.12779), which puts the trace of the Hessian of the
policy loss into a PAC-Bayes bound; McAllester, "A PAC-Bayesian tutorial with a dropout
bound", 2013 (arXiv 1307.2118), theorem 2; Zhang, Li and Ju, "Noise stability
optimization for finding flat minima", 2024 (arXiv 2306.08553), whose bound has the
same leading term.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pgx_jax.arguments import as_integer, as_share, check_number, show


class GeneralizationBound(NamedTuple):
    """A bound on the loss on unseen data, to second order.

    Attributes:
      leading: sqrt(C alpha r^2 / n), which grows with the trace and the distance.
      loss: what the loss is at most with the given confidence; more than C says
        nothing.
      noise: sigma, the standard deviation of the parameters that the bound is least at;
        infinite where the trace is 0.
    """

    leading: float
    loss: float
    noise: float


def pac_bayes_bound(
    observed_loss: float,
    trace: float,
    distance: float,
    num_samples: int,
    *,
    loss_range: float = 1.0,
    confidence: float = 0.95,
    temperature: float = 2.0,
) -> GeneralizationBound:
    """Bounds the loss of parameters by the trace of the loss's Hessian there.

    For a prior chosen before the data, with probability 1 - delta and all Q at once,

        (1 - 1 / (2 lambda)) L(Q) <= L^(Q) + lambda C / n (KL(Q | P) + log(1 / delta)).

    Q is normal around the parameters and P around those before training, both of
    variance sigma^2, so that KL = r^2 / (2 sigma^2). To second order L^(Q) is
    L^ + sigma^2 alpha / 2, and L(Q) at least L. At the best sigma,

        (1 - 1 / (2 lambda)) L <= L^ + sqrt(lambda C alpha r^2 / n)
                                  + lambda C log(1 / delta) / n.

    Terms of third order are left out, and so is what the choice of sigma from the data
    costs: for a grid of it, the logarithm of its size beside log(1 / delta).

    Args:
      observed_loss: L^, the mean over the samples; between 0 and C.
      trace: alpha, of the Hessian of L^; one below 0 counts as 0.
      distance: r, of the parameters from those before training.
      num_samples: n, independent ones: tasks, where unseen tasks are the data.
      loss_range: C; the loss of a sample lies in [0, C].
      confidence: 1 - delta, in (0, 1).
      temperature: lambda, above 1/2, chosen before the data.

    Raises:
      ValueError: a number is not finite or out of its range.
    """
    for name, value in (("observed_loss", observed_loss), ("distance", distance)):
        check_number(name, value, zero=True)
    check_number("loss_range", loss_range)
    check_number("temperature", temperature)
    if temperature <= 0.5:
        raise ValueError(f"temperature must be above 0.5, got {temperature}")
    if observed_loss > loss_range:
        raise ValueError(
            f"observed_loss must be at most loss_range = {loss_range}, got "
            f"{observed_loss}"
        )
    if not math.isfinite(trace):
        raise ValueError(f"trace must be finite, got {show(trace)}")
    n = as_integer("num_samples", num_samples, 1)
    delta = 1.0 - as_share("confidence", confidence)
    curvature = max(float(trace), 0.0)
    leading = math.sqrt(loss_range * curvature / n) * distance
    surplus = math.sqrt(temperature) * leading
    surplus += temperature * loss_range * math.log(1.0 / delta) / n
    noise = math.inf
    if curvature > 0.0:
        strength = temperature * loss_range * distance**2 / (n * curvature)
        noise = strength**0.25
    loss = (observed_loss + surplus) / (1.0 - 0.5 / temperature)
    return GeneralizationBound(leading, loss, noise)
