"""The results of a run: what is refused, and what a file keeps."""

import dataclasses
import json

import numpy as np
import pytest

from pgx_jax.pipeline.results import RunResults, order_by_group
from pgx_jax.runs.digests import Damaged, write_json


def test_results_survive_json(make_results, tmp_path):
    results = make_results()
    path = tmp_path / "results.json"
    results.to_json(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    loaded = RunResults.from_json(path)
    for field in dataclasses.fields(results):
        expected, value = (getattr(r, field.name) for r in (results, loaded))
        np.testing.assert_equal(value, expected)
    assert np.isnan(loaded.learning_curves["meta-training"]["returns"][0][0])


def test_files_of_earlier_versions_are_read(make_results, tmp_path):
    results, path = make_results(), tmp_path / "results.json"
    old = dataclasses.asdict(results) | {"max_return": None, "learning_curves": {}}
    del old["uncertainty"], old["scalarization"]
    path.write_text(json.dumps(old))
    assert RunResults.from_json(path).methods == results.methods


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "do not match"),
        (lambda text: text[: len(text) // 2], "no JSON"),
        (lambda text: "", "no JSON"),
        (lambda text: "[]", "no JSON object"),
        (lambda text: '{"seed": 0}', "holds no results"),
        (lambda text: None, "is missing"),
    ],
)
def test_damaged_results_name_file_and_remedy(make_results, tmp_path, damage, reason):
    path = tmp_path / "results.json"
    make_results().to_json(path)
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.unlink() if damaged is None else path.write_text(damaged)
    with pytest.raises(Damaged, match=f"results.json .*{reason}.*writes it again$"):
        RunResults.from_json(path)


def test_results_of_another_run_do_not_pass(make_results, tmp_path):
    results, path = make_results(), tmp_path / "results.json"
    results.config = {"seed": 0, "checkpoint_every": 10}
    results.to_json(path)
    write_json(tmp_path / "config.json", results.config | {"run": "a"})
    assert RunResults.from_json(path).config == results.config
    write_json(tmp_path / "config.json", results.config | {"seed": 1, "run": "b"})
    with pytest.raises(Damaged, match="results.json is of other settings"):
        RunResults.from_json(path)


def test_groups_are_in_the_order_of_their_first_task(make_results):
    assert order_by_group([1, 0, 1, 2, 0]) == [[0, 2], [1, 4], [3]]
    results = make_results()
    results.groups["estimated"] = [2, 0, 2, 1, 0, 0, 0, 0, 0, 0]
    assert results.found_groups == [[0, 2], [1, 4, 5, 6, 7, 8, 9], [3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_names": ["alone"]}, "task_names"),
        ({"affinity": np.eye(9)}, r"affinity must have shape \(10, 10\), got \(9, 9\)"),
        ({"affinity": np.full((10, 10), np.nan)}, "affinity must be finite"),
        ({"pair_counts": [[1, 2], [3]]}, "pair_counts must be numbers"),
        ({"relative_distance": {"median": 0.1}}, "relative_distance lacks"),
        ({"groups": {"planted": [0] * 10}}, "groups must hold"),
        ({"groups": {"estimated": [0] * 9}}, r"groups\['estimated'\]"),
        (
            {"learning_curves": {"a": {"steps": [1, 2], "returns": [[0.0] * 10]}}},
            r"learning_curves\['a'\]\['returns'\] must have shape \(2, 10\)",
        ),
        ({"methods": []}, "methods must not be empty"),
        (
            {"first_method": {"source": np.ones((1, 9, 4))}},
            r"methods\[0\]\['source'\] must have shape \(any, 10, any\)",
        ),
        (
            {"first_method": {"target": np.ones((2, 50, 4))}},
            r"methods\[0\]\['target'\] must have shape \(1, any, any\)",
        ),
        ({"first_method": {"source": np.full((1, 10, 4), np.nan)}}, "must be finite"),
        (
            {"first_method": {"success": [[0.5] * 3]}},
            r"methods\[0\]\['success'\] must have shape \(1, 10\)",
        ),
    ],
)
def test_results_that_do_not_fit_together_are_refused(make_results, changes, message):
    first, *others = make_results().methods
    if "first_method" in changes:
        changes = {"methods": [first | changes["first_method"], *others]}
    with pytest.raises(ValueError, match=message):
        make_results(**changes)


def test_uncertainty_of_another_shape_is_refused(make_results, add_uncertainty):
    with pytest.raises(ValueError, match="uncertainty\\['lower'\\] must have shape"):
        add_uncertainty(make_results(), lower=np.zeros((3, 3)))


def test_uncertainty_survives_the_file(make_results, add_uncertainty, tmp_path):
    results = add_uncertainty(make_results())
    results.to_json(tmp_path / "results.json")
    again = RunResults.from_json(tmp_path / "results.json")
    assert again.uncertainty == results.uncertainty
