"""The same call on eight devices, in a process that has them."""

from __future__ import annotations

from forced_devices import run_on_eight

PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    import pgx_jax as pge

    def log_prob(params, observation, action):
        hidden = jnp.tanh(observation @ params["hidden"])
        return jax.nn.log_softmax(hidden @ params["out"])[action]

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    params = {"hidden": draw(3, 8), "out": draw(8, 2)}
    # Neither 5 * 21 transitions nor 37 subsets divide by 8.
    batch = pge.Transitions(draw(5, 21, 3), rng.integers(0, 2, (5, 21)), draw(5, 21))
    key = jax.random.key(0)
    subsets = pge.sample_subsets(key, 5, 37, 3)

    devices = np.array(jax.devices())
    assert len(devices) == 8
    meshes = [
        jax.sharding.Mesh(devices, ("data",)),
        jax.sharding.Mesh(devices.reshape(4, 2), ("hosts", "data")),
    ]
    for settings in (
        dict(dim=16, num_resamples=3),
        dict(dim=None),
        dict(dim=16, evaluator="off_policy", held_out_fraction=0.3),
    ):
        estimate = lambda **more: pge.estimate_subsets(
            log_prob, params, batch, subsets, key=key, **settings, **more
        )
        one = estimate()
        for mesh in meshes if "num_resamples" in settings else meshes[:1]:
            many = estimate(mesh=mesh)
            assert len(many.scores.sharding.device_set) == 8, many.scores.sharding
            for name in one._fields:
                a, b = getattr(one, name), getattr(many, name)
                if a is None or name in ("gradient_norm", "num_iterations"):
                    continue
                # Solutions end at another rounding, so relative to all of the array.
                size = float(np.abs(np.asarray(a)).max()) or 1.0
                loose = name in ("delta", "resampled_scores")
                # Off-policy scores are small differences of means.
                if "evaluator" in settings:
                    loose |= name in ("scores", "standard_error")
                error = np.abs(np.asarray(a, float) - np.asarray(b, float)).max()
                assert error <= (1e-4 if loose else 1e-5) * size, (name, error / size)
            u = pge.task_affinity(one).matrix
            np.testing.assert_allclose(pge.task_affinity(many).matrix, u, atol=1e-4)
    print("same")
"""


def test_eight_devices_give_the_same_numbers_as_one():
    assert run_on_eight(PROGRAM) == "same"
