"""Soft Modularization against NumPy, module by module."""

import numpy as np
from networks.cases import check_equation, dense, one, softmax

MODULES = 3


def test_modules_are_mixed_by_the_routing_network():
    def equation(params, s, task):
        observed = np.tanh(dense(params["Dense_0"], s))
        e = observed * params["task"]["table"][task]
        p = dense(params["route_0"], np.maximum(e, 0))
        modules = [observed] * MODULES
        for layer in range(2):
            if layer:
                routed = dense(params["route_in_1"], p) * e
                p = dense(params["route_1"], np.maximum(routed, 0))
            q = softmax(p.reshape(MODULES, MODULES))
            stack = params[f"modules_{layer}"]
            outputs = [np.tanh(dense(one(stack, j), g)) for j, g in enumerate(modules)]
            modules = [
                sum(q[i, j] * outputs[j] for j in range(MODULES))
                for i in range(MODULES)
            ]
        last = params["StackedDense_0"]
        return sum(dense(one(last, j), g) for j, g in enumerate(modules))

    check_equation(equation, name="soft_modularization", num_modules=MODULES)
