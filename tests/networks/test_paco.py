"""PaCo against an MLP with composed parameters."""

import jax
import numpy as np
from networks.cases import check_equation, dense


def test_parameters_of_a_task_are_a_combination_of_the_sets():
    def equation(params, s, task):
        w = params["task"]["table"][task]
        layers = [
            jax.tree.map(
                lambda phi: np.tensordot(w, phi, axes=1), params[f"StackedDense_{i}"]
            )
            for i in range(3)
        ]
        h = np.tanh(dense(layers[0], s))
        h = np.tanh(dense(layers[1], h))
        return dense(layers[2], h)

    check_equation(equation, name="paco", num_modules=4)
