"""MOORE against NumPy, and its Gram-Schmidt process against a QR decomposition."""

import jax
import numpy as np
import pytest
from networks.cases import check_equation, dense, one

from pgx_jax.networks.moore import gram_schmidt

EXPERTS = 3


@pytest.mark.parametrize("shared", [True, False])
def test_orthogonal_experts_are_mixed_by_the_task(shared):
    def equation(params, s, task):
        first, second = (params["experts"][f"StackedDense_{i}"] for i in range(2))
        basis = []
        for k in range(EXPERTS):
            u = dense(one(second, k), np.tanh(dense(one(first, k), s)))
            r = u - sum((v @ u) * v for v in basis)
            basis.append(r / np.linalg.norm(r))
        v = np.array(basis).T @ params["task"]["table"][task]
        head = params["head"] if shared else one(params["heads"], task)
        return dense(head, np.tanh(v))

    check_equation(equation, name="moore", num_modules=EXPERTS, shared_head=shared)


def test_gram_schmidt_is_a_qr_decomposition():
    vectors = np.random.default_rng(0).normal(size=(5, 4, 9)).astype(np.float32)
    ours = gram_schmidt(vectors)
    q, r = np.linalg.qr(np.swapaxes(vectors, 1, 2).astype(np.float64))
    signs = np.sign(np.diagonal(r, axis1=1, axis2=2))
    np.testing.assert_allclose(ours, np.swapaxes(q * signs[:, None], 1, 2), atol=1e-5)


def test_dependent_vectors_give_nearly_nothing_and_finite_gradients():
    vectors = np.array([[1.0, 2.0, 2.0], [2.0, 4.0, 4.0], [0.0, 0.0, 0.0]], np.float32)
    first, *others = gram_schmidt(vectors)
    np.testing.assert_allclose(first, [1 / 3, 2 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(others, np.zeros((2, 3)), atol=1e-2)
    assert np.isfinite(jax.jacobian(gram_schmidt)(vectors)).all()
