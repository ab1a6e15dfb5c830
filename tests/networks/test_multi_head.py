"""The multi-head network against NumPy."""

import numpy as np
from networks.cases import check_equation, dense, one


def test_each_task_has_the_trunk_of_all_and_a_head_of_its_own():
    def equation(params, s, task):
        h = np.tanh(dense(params["Dense_0"], s))
        h = np.tanh(dense(params["Dense_1"], h))
        return dense(one(params["StackedDense_0"], task), h)

    check_equation(equation, name="multi_head")
