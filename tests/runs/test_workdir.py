"""A run's directory keeps all that is needed to go on, and belongs to one config."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.runs.workdir import Workdir, config_difference


def make_state(size=3):
    return {
        "params": jnp.arange(size, dtype=jnp.float32),
        "key": jax.random.key(7),
        "keys": jax.random.split(jax.random.key(1), (2, 3)),
        "count": jnp.asarray(5, jnp.int32),
        "flag": jnp.asarray([True, False]),
    }


def assert_equal_states(a, b):
    def raw(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(raw(x), raw(y))


def test_training_state_comes_back_whole(tmp_path):
    checkpoints = Workdir(tmp_path, {}).training_checkpoints("meta_training")
    assert checkpoints.restore(make_state()) is None
    for step in (10, 20, 30):
        checkpoints.save(step, make_state(), {"seconds": 1.5 * step}, ["a line"])
    assert checkpoints.steps() == [20, 30]
    checkpoints = Workdir(tmp_path, {}).training_checkpoints("meta_training")
    restored = checkpoints.restore(jax.tree.map(lambda x: x, make_state()))
    assert restored is not None
    assert (restored.step, restored.info) == (30, {"seconds": 45.0})
    assert (restored.lines, restored.passed_over) == (["a line"], ())
    assert_equal_states(restored.state, make_state())


def test_checkpoint_of_other_shapes_is_refused(tmp_path):
    checkpoints = Workdir(tmp_path, {}).training_checkpoints("meta_training")
    checkpoints.save(10, make_state(3), {})
    with pytest.raises(ValueError, match="10/state holds arrays of other shapes"):
        checkpoints.restore(make_state(4))


def test_result_of_other_shapes_is_refused(tmp_path):
    workdir = Workdir(tmp_path, {})
    workdir.finish("group_training", make_state(3), {})
    with pytest.raises(ValueError, match="group_training/result holds .* earlier"):
        workdir.result("group_training", make_state(4))


def test_stage_result_counts_once_it_is_whole(tmp_path):
    workdir = Workdir(tmp_path, {"seed": 0})
    assert not workdir.resumed
    assert not workdir.is_finished("estimation")
    workdir.finish("estimation", {"matrix": np.eye(2)}, {"seconds": 2.0})
    again = Workdir(tmp_path, {"seed": 0})
    assert again.resumed
    assert again.is_finished("estimation")
    np.testing.assert_array_equal(again.result("estimation")["matrix"], np.eye(2))
    assert again.info("estimation") == {"seconds": 2.0}


def test_workdir_of_another_config_is_refused_with_the_difference(tmp_path):
    Workdir(tmp_path, {"seed": 0, "ppo": {"num_envs": 16, "discount": 0.99}})
    with pytest.raises(
        ValueError, match=r"ppo.num_envs: 16 in the workdir, 8 now"
    ) as e:
        Workdir(tmp_path, {"seed": 0, "ppo": {"num_envs": 8, "discount": 0.99}})
    assert "discount" not in str(e.value)


def test_difference_names_fields_on_either_side():
    old, new = {"a": 1, "b": 2, "d": {"e": 1}}, {"a": 1, "c": 3, "d": {"e": 2}}
    assert config_difference(old, new) == {
        "b": "b: 2 in the workdir, 'absent' now",
        "c": "c: 'absent' in the workdir, 3 now",
        "d.e": "d.e: 1 in the workdir, 2 now",
    }


def test_settings_of_stages_that_have_not_begun_may_change(tmp_path):
    def open_with(**changes):
        config = {"a": 0, "b": 0, "c": 0} | changes
        return Workdir(tmp_path, config, {"a": "first", "b": "second", "c": None}.get)

    open_with()
    assert open_with(a=1, b=1, c=1).config == {"a": 1, "b": 1, "c": 1}
    open_with(a=1).finish("first", {"x": np.zeros(1)}, {})
    assert open_with(a=1, b=2, c=2).config == {"a": 1, "b": 2, "c": 2}
    refused = r"a: 1 in the workdir, 3 now; stage first has begun with it$"
    with pytest.raises(ValueError, match=refused):
        open_with(a=3, b=3, c=3)
    assert open_with(a=1, b=2, c=2).config == {"a": 1, "b": 2, "c": 2}
    checkpoints = open_with(a=1, b=2).training_checkpoints("second", ["first"])
    checkpoints.save(1, {"x": np.zeros(1)}, {}, [])
    with pytest.raises(ValueError, match="b: 2 in the workdir, 0 now; stage second"):
        open_with(a=1, b=0)
    assert Workdir.open(tmp_path).result("first")["x"].shape == (1,)


def test_unwritable_workdir_is_refused(tmp_path):
    # Permissions do not stop root, but a file in the way does.
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="workdir .* cannot be written to"):
        Workdir(tmp_path / "file" / "run", {})


def test_a_workdir_can_be_opened_by_several_at_once(tmp_path):
    Workdir(tmp_path, {"a": 1})
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: Workdir(tmp_path, {"a": 1}), range(400)))
    assert all(workdir.resumed for workdir in opened)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
