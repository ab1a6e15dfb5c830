"""CARE against NumPy, with learned embeddings and with the user's."""

import numpy as np
import pytest
from networks.cases import NUM_TASKS, check_equation, dense, one, softmax

ENCODERS = 4
EMBEDDINGS = np.random.default_rng(2).normal(size=(NUM_TASKS, 5)).tolist()


@pytest.mark.parametrize("embeddings", [(), EMBEDDINGS])
def test_encoders_are_attended_to_by_the_context(embeddings):
    def equation(params, s, task):
        table = embeddings or params["task"]["table"]
        context = params["context"]
        h = np.tanh(dense(context["Dense_0"], np.asarray(table[task])))
        c = dense(context["Dense_1"], h)
        attention = softmax(dense(params["attention"], c))
        first, second = (params["encoders"][f"StackedDense_{i}"] for i in range(2))
        encodings = [
            dense(one(second, j), np.tanh(dense(one(first, j), s)))
            for j in range(ENCODERS)
        ]
        z = sum(a * x for a, x in zip(attention, encodings, strict=True))
        h = np.concatenate([z, c])
        for i in range(2):
            h = np.tanh(dense(params["MLP_0"][f"Dense_{i}"], h))
        return dense(params["MLP_0"]["Dense_2"], h)

    check_equation(
        equation, name="care", num_modules=ENCODERS, task_embeddings=embeddings
    )
