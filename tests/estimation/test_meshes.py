"""The estimate on meshes of every axis type, in a process that has eight devices."""

from __future__ import annotations

from forced_devices import run_on_eight

PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
    import pgx_jax as pge

    def log_prob(params, observation, action):
        return jax.scipy.stats.norm.logpdf(action, observation @ params, 1.0)

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    params, key = draw(3), jax.random.key(0)
    # Eight transitions a task, so that they may come sharded; six subsets do not.
    batch = pge.Transitions(draw(4, 8, 3), draw(4, 8), draw(4, 8))
    subsets = pge.sample_subsets(key, 4, 6, 2)

    def estimate(batch, mesh=None, subsets=subsets):
        return pge.estimate_subsets(
            log_prob, params, batch, subsets, key=key, dim=3, mesh=mesh
        )

    one = estimate(batch)
    affinity = pge.task_affinity(one).matrix

    def check(case, many, expected=one):
        for name in ("scores", "delta", "loss", "relative_distance"):
            a, b = (np.asarray(getattr(x, name)) for x in (expected, many))
            error = np.abs(a - b).max() / np.abs(a).max()
            assert error <= 1e-5, (case, name, error)

    def make(shape, *types):
        devices = np.array(jax.devices())[: np.prod(shape)].reshape(shape)
        return Mesh(devices, ("x", "y")[: len(shape)], axis_types=types)

    auto, explicit, manual = AxisType.Auto, AxisType.Explicit, AxisType.Manual
    meshes = [
        make((2,), explicit),
        make((8,), explicit),
        make((8,), manual),
        make((4, 2), explicit, auto),
    ]
    for mesh in meshes:
        many = estimate(batch, mesh)
        check(mesh, many)
        assert len(many.scores.sharding.device_set) == mesh.size
    check("make_mesh", estimate(batch, jax.make_mesh((1,), ("x",))))

    mesh = meshes[1]
    on = lambda mesh, *spec: NamedSharding(mesh, P(*spec))
    sharded = jax.device_put(batch, on(mesh, None, "x"))
    whole = jax.device_put(jnp.asarray(subsets), on(mesh, None, None))
    check("sharded", estimate(sharded, mesh, whole))
    check("elsewhere", estimate(jax.device_put(batch, jax.devices()[3]), mesh))
    reverse = Mesh(mesh.devices[::-1], ("x",), axis_types=(explicit,))
    check("reversed", estimate(jax.device_put(batch, on(reverse, None, "x")), mesh))
    two = jax.device_put(batch, on(make((4, 2), explicit, explicit), "x", "y"))
    check("other mesh", estimate(two, mesh))

    # Inside of jit the sizes are the loosest, so that sums end at another rounding.
    inside = jax.jit(estimate)(batch)
    nested = jax.jit(lambda batch: estimate(batch, mesh))
    check("nested", nested(sharded), inside)
    check("nested, no mesh", jax.jit(estimate)(sharded), inside)
    other = jax.jit(nested, in_shardings=on(make((8,), auto), None, "x"))
    check("in_shardings", other(batch), inside)
    with jax.set_mesh(mesh):
        many = estimate(batch, mesh)
        check("context", many)
        check("context, nested", nested(sharded), inside)
        np.testing.assert_allclose(pge.task_affinity(many).matrix, affinity, atol=1e-4)
    rows = jax.device_put(jnp.asarray(one.scores), on(make((2,), explicit), "x"))
    u = pge.task_affinity(one._replace(scores=rows)).matrix
    np.testing.assert_allclose(u, affinity, atol=1e-5)
    print("same")
"""


def test_any_mesh_gives_the_numbers_of_none():
    assert run_on_eight(PROGRAM) == "same"
