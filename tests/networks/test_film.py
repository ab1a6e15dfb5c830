"""FiLM against NumPy."""

import jax
import numpy as np
from networks.cases import check_equation, dense, draw_observations, make_networks


def test_each_task_scales_and_shifts_every_layer():
    def equation(params, s, task):
        h = s
        for i in range(2):
            gamma, beta = np.split(params[f"task_{i}"]["table"][task], 2)
            h = np.tanh((1 + gamma) * dense(params[f"Dense_{i}"], h) + beta)
        return dense(params["Dense_2"], h)

    check_equation(equation, name="film")


def test_all_tasks_start_as_one_mlp():
    networks = make_networks(name="film")
    params = networks.init(jax.random.key(0))["value"]
    x = draw_observations()
    x[:, :, :2] = x[:1, :, :2]
    values = np.asarray(networks.value(params, x))
    np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))
