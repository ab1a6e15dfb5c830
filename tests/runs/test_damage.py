"""Damage to what a run keeps on disk is found, named, and mended where it can be."""

import errno
import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgx_jax.runs.digests import Damaged, digest_arrays, read_json, write_json
from pgx_jax.runs.workdir import Workdir


def make_state(value):
    return {"params": jnp.arange(5_000.0) * value, "key": jax.random.key(7)}


@pytest.fixture
def saved(tmp_path):
    """A workdir with checkpoints of updates 2 and 4."""
    workdir = tmp_path / "run"
    checkpoints = Workdir(workdir, {"seed": 0}).training_checkpoints("meta_training")
    for step in (2, 4):
        checkpoints.save(step, make_state(step), {"seconds": float(step)})
    return workdir


def restore(workdir, stage="meta_training"):
    checkpoints = Workdir(workdir, {"seed": 0}).training_checkpoints(stage)
    return checkpoints.restore(make_state(0.0))


def flip(path, share=0.5):
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 4
    path.write_bytes(data)


def files_of(directory):
    return sorted(x for x in directory.rglob("*") if x.is_file())


def test_a_flipped_bit_in_any_file_is_found_and_the_older_checkpoint_taken(saved):
    newest = saved / "checkpoints" / "meta_training" / "4"
    whole = {file: file.read_bytes() for file in files_of(newest)}
    assert len(whole) > 8
    for file, data in whole.items():
        if data:
            flip(file)
            restored = restore(saved)
            assert restored.step == 2
            assert restored.state["params"][1] == 2.0
            (told,) = restored.passed_over
            assert str(file) in told and "\n" not in told
            file.write_bytes(data)
    assert restore(saved).step == 4


@pytest.mark.parametrize("damage", ["empty", "cut", "delete"])
def test_a_file_that_lacks_bytes_is_found(saved, damage):
    newest = saved / "checkpoints" / "meta_training" / "4"
    file = max(files_of(newest), key=lambda x: x.stat().st_size)
    if damage == "delete":
        file.unlink()
    else:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    restored = restore(saved)
    assert restored.step == 2
    assert str(file) in restored.passed_over[0]


def test_a_checkpoint_under_another_name_does_not_pass(saved):
    checkpoints = saved / "checkpoints" / "meta_training"
    shutil.rmtree(checkpoints / "4")
    (checkpoints / "2").rename(checkpoints / "6")
    with pytest.raises(Damaged, match="6 is not of update 6 but of 2; .* put back"):
        restore(saved)
    (checkpoints / "6").rename(checkpoints / "2")
    assert restore(saved).step == 2


def test_a_checkpoint_of_another_run_or_stage_does_not_pass(saved, tmp_path):
    other = tmp_path / "other"
    checkpoints = Workdir(other, {"seed": 1}).training_checkpoints("meta_training")
    checkpoints.save(4, make_state(9), {"seconds": 1.0})
    newest = saved / "checkpoints" / "meta_training" / "4"
    shutil.rmtree(newest)
    shutil.copytree(other / "checkpoints" / "meta_training" / "4", newest)
    restored = restore(saved)
    assert restored.step == 2 and "is not of run" in restored.passed_over[0]
    shutil.rmtree(newest)
    newest.parent.rename(saved / "checkpoints" / "group_training")
    with pytest.raises(Damaged, match="is not of stage 'group_training'"):
        restore(saved, "group_training")


def test_the_next_checkpoints_replace_the_damaged_one(saved):
    newest = saved / "checkpoints" / "meta_training" / "4"
    flip(files_of(newest)[0])
    checkpoints = Workdir(saved, {"seed": 0}).training_checkpoints("meta_training")
    assert checkpoints.restore(make_state(0.0)).step == 2
    checkpoints.save(3, make_state(3), {"seconds": 3.0})
    assert checkpoints.steps() == [2, 3]
    assert restore(saved).step == 3


def test_a_result_of_other_results_than_those_here_is_found(tmp_path):
    def finish(value):
        workdir.finish("first", {"x": np.full(3, value)}, {})

    workdir = Workdir(tmp_path, {})
    finish(1.0)
    workdir.finish("second", {"y": np.ones(2)}, {}, after=["first"])
    workdir.check("second", ["first"])
    finish(1.0)  # computed again, with the same numbers
    Workdir(tmp_path, {}).check("second", ["first"])
    finish(2.0)
    with pytest.raises(Damaged, match="second was computed from other results"):
        Workdir(tmp_path, {}).check("second", ["first"])


def test_damaged_results_name_file_and_remedy(tmp_path):
    Workdir(tmp_path, {}).finish("first", {"x": np.ones(3)}, {"seconds": 1.0})
    for file in files_of(tmp_path / "stages"):
        if data := file.read_bytes():
            flip(file)
            workdir = Workdir.open(tmp_path)
            for read in (workdir.result, workdir.info, workdir.latest_state):
                with pytest.raises(Damaged) as error:
                    read("first")
                assert str(file) in str(error.value)
                assert "put back a copy, or delete" in str(error.value)
            file.write_bytes(data)
    (tmp_path / "stages" / "first" / "info.json").write_bytes(b"")
    with pytest.raises(Damaged, match=r"info.json is damaged: 0 bytes in place of \d"):
        Workdir.open(tmp_path).info("first")


def test_a_config_that_was_changed_or_is_missing_is_refused(tmp_path):
    Workdir(tmp_path, {"seed": 0}).write_policies({"one": {"stage": "a"}})
    file = tmp_path / "config.json"
    text = file.read_text()
    for damaged in (text.replace('"seed": 0', '"seed": 7'), text[:20], "", "[]", "\0"):
        file.write_text(damaged)
        for opened in (
            lambda: Workdir(tmp_path, {"seed": 7}),
            lambda: Workdir.open(tmp_path),
        ):
            with pytest.raises(Damaged, match="config.json is damaged: .*; put back"):
                opened()
    file.unlink()
    for opened in (
        lambda: Workdir(tmp_path, {"seed": 7}),
        lambda: Workdir.open(tmp_path),
    ):
        with pytest.raises(Damaged, match="config.json is missing, though .* policies"):
            opened()
    assert not file.exists()


def test_policies_of_another_run_are_refused(tmp_path):
    policies = {"one policy": {"stage": "a", "policy_ids": [[0, 0]]}}
    workdir = Workdir(tmp_path / "a", {"seed": 0})
    workdir.write_policies(policies)
    assert workdir.read_policies() == policies
    Workdir(tmp_path / "b", {"seed": 0}).write_policies(policies)
    shutil.copy(tmp_path / "b" / "policies.json", tmp_path / "a" / "policies.json")
    with pytest.raises(Damaged, match="policies.json is of another run; put back"):
        workdir.read_policies()


def test_what_a_killed_run_left_unfinished_is_deleted(saved):
    stage = saved / "checkpoints" / "meta_training"
    shutil.copytree(stage / "4", stage / "6.partial")
    (stage / "2").rename(stage / "2.old.partial")
    (saved / "policies.json.partial").write_text("{")
    (saved / "notes.txt").write_text("of the user")
    Workdir(saved, {"seed": 0}).remove_leavings()
    assert [path.name for path in stage.iterdir()] == ["4"]
    assert {x.name for x in saved.iterdir()} == {
        "checkpoints",
        "config.json",
        "notes.txt",
    }
    # A run killed between storing a result and deleting its checkpoints.
    Workdir(saved, {"seed": 0}).finish("another", {"x": np.ones(1)}, {})
    shutil.copytree(stage, saved / "checkpoints" / "another")
    Workdir(saved, {"seed": 0}).remove_leavings()
    assert [x.name for x in (saved / "checkpoints").iterdir()] == ["meta_training"]


def test_a_workdir_that_is_gone_ends_the_run_in_one_line(saved):
    workdir = Workdir(saved, {"seed": 0})
    checkpoints = workdir.training_checkpoints("meta_training")
    saved.rename(saved.with_name(f"{saved.name}_moved"))
    for write in (
        lambda: checkpoints.save(6, make_state(1.0), {}),
        lambda: workdir.finish("meta_training", make_state(1.0), {}),
        lambda: workdir.write_policies({}),
    ):
        with pytest.raises(OSError, match="removed, moved or changed") as error:
            write()
        assert "\n" not in str(error.value)
    assert not saved.exists()


@pytest.mark.parametrize("function", ["_save_arrays", "remove"])
def test_a_workdir_that_goes_while_it_is_written_to_is_told(
    saved, monkeypatch, function
):
    checkpoints = Workdir(saved, {"seed": 0}).training_checkpoints("meta_training")

    def move(*_):
        saved.rename(saved.with_name(f"{saved.name}_moved"))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(f"pgx_jax.runs.checkpoints.{function}", move)
    with pytest.raises(OSError, match="removed, moved or changed"):
        checkpoints.save(6, make_state(6), {"seconds": 6.0})
    assert not saved.exists()


@pytest.mark.parametrize("full", ["before", "in Orbax", "after"])
def test_a_full_disk_leaves_the_checkpoints_that_are_whole(saved, monkeypatch, full):
    checkpoints = Workdir(saved, {"seed": 0}).training_checkpoints("meta_training")
    checkpoints.restore(make_state(0.0))
    before = files_of(saved)
    if full == "before":
        usage = shutil._ntuple_diskusage(10, 10, 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    else:
        name = "_save_arrays" if full == "in Orbax" else "seal"
        error = OSError(errno.ENOSPC, "No space left on device")
        if full == "in Orbax":  # as it words it
            error = ValueError("UNKNOWN: Failed\\n [os_error_code='28', x='y']")

        def fail(*_):
            raise error

        monkeypatch.setattr(f"pgx_jax.runs.checkpoints.{name}", fail)
    with pytest.raises(OSError) as raised:
        checkpoints.save(6, make_state(6), {"seconds": 6.0})
    directory = saved / "checkpoints" / "meta_training"
    assert str(raised.value) == (
        f"the checkpoint after update 6 cannot be written to {directory}: No space "
        "left on device; the last whole one is that after update 4; make room (disk, "
        "quota or file-size limit) and give the same command again"
    )
    monkeypatch.undo()
    assert files_of(saved) == before
    assert restore(saved).step == 4


def test_digests_are_those_of_sha_256(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1.5, "y": [None, "z"]})
    text = '["a.json",{"x":1.5,"y":[null,"z"]}]'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert json.loads((tmp_path / "a.json").read_text())["digest"] == expected
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    with pytest.raises(Damaged, match="do not match"):
        read_json(tmp_path / "b.json")
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    expected = hashlib.sha256(b"['x'] int16 (2, 3)\n" + array.tobytes()).hexdigest()
    assert digest_arrays({"x": array}) == expected
    assert digest_arrays({"x": array.T}) != expected
    assert digest_arrays({"x": array.astype(np.uint16)}) != expected
