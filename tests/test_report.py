"""The report: what is in it, in what order, and what is refused."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import sys

import numpy as np
import pytest

from pgx_jax import report
from pgx_jax.analysis import statistics


def make_results(num_tasks=10, num_groups=2, planted=True, num_updates=60, **changes):
    """Results as a run on CartPoles gives them, with the groups it should find."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_tasks) * num_groups // num_tasks
    labels = rng.permutation(labels) if num_tasks > 12 else labels
    same = labels[:, None] == labels[None, :]
    noise = rng.normal(0.0, 0.12, (num_tasks, num_tasks))
    affinity = np.where(same, 0.75, -0.55) + (noise + noise.T) / 2
    pair_counts = rng.integers(90, 130, (num_tasks, num_tasks))

    def returns(mean, num_columns=num_tasks, draws=1, spread=1.0):
        means = np.clip(mean + rng.normal(0, 25, (draws, num_columns, 1)), 20, 490)
        means = means + spread * rng.normal(0, 15, (draws, 1, 1))
        return np.clip(rng.normal(means, 40, (draws, num_columns, 16)), 9, 500)

    def curve(start, level):
        steps = np.linspace(0, 1_500_000, num_updates)
        rise = 1 - np.exp(-steps / 3e5)
        values = (
            start
            + (level - start) * rise[:, None]
            + rng.normal(0, 22, (num_updates, num_tasks))
        )
        values[:2] = np.nan
        return {"steps": steps, "returns": np.clip(values, 9, 500)}

    side = np.where(labels == 0, 470.0, 120.0 + 60 * labels)
    methods = [
        ("affinity groups", "One policy per group found from the affinity.", 485),
        ("one policy", "One policy for all tasks.", None),
        ("random groups", "Groups of the same sizes, drawn at random.", 330),
        ("gradient similarity", "Groups from the cosine of task gradients.", 380),
        ("one policy per task", "Every task alone.", 470),
    ]
    policies = (num_groups, 1, num_groups, num_groups, num_tasks)
    target = {"num_columns": 50} if num_tasks <= 12 else None
    options = {
        "name": "cartpole-opposed",
        "task_names": [f"cartpole-{i}" for i in range(num_tasks)],
        "episode_length": 500,
        "seed": 0,
        "affinity": affinity,
        "affinity_method": "standardised",
        "pair_counts": pair_counts + pair_counts.T,
        "num_subsets": 2_000,
        "subset_size": 3,
        "relative_distance": {"median": 0.0081, "max": 0.0313},
        "converged_share": 1.0,
        "groups": {"estimated": labels, "gradient similarity": rng.permutation(labels)},
        "methods": [
            {
                "name": name,
                "description": description,
                "num_policies": count,
                "source": returns(
                    side[:, None] if mean is None else mean,
                    draws=5 if name == "random groups" else 1,
                ),
                "target": target
                and returns(
                    285 if mean is None else mean - 40,
                    draws=5 if name == "random groups" else 1,
                    **target,
                ),
            }
            for (name, description, mean), count in zip(methods, policies, strict=True)
        ],
        "learning_curves": {
            "meta-training": curve(25.0, side),
            "group training": curve(side, np.full(num_tasks, 486.0)),
        },
        "timings": [
            {"stage": "meta-training", "seconds": 14.2, "env_steps": 15_000_000},
            {"stage": "projection", "seconds": 2.1, "env_steps": 20_480},
            {"stage": "estimation", "seconds": 1.3, "env_steps": None},
            {"stage": "clustering", "seconds": 0.04, "env_steps": None},
            {"stage": "group training", "seconds": 95.7, "env_steps": 60_000_000},
        ],
        "max_return": 500.0,
        "config": {"seed": 0, "ppo": {"learning_rate": 3e-4, "layers": (64, 64)}},
        "device": "NVIDIA H100 80GB HBM3",
        "versions": {"jax": "0.10.2", "python": "3.11.7"},
        "commit": "ad3c788",
        "command": "python -m experiments.run --config=cartpole",
    }
    if planted:
        options["groups"]["planted"] = labels
        options["nmi"] = {"estimated": 1.0, "gradient similarity": 0.15}
    return report.RunResults(**(options | changes))


class Page(html.parser.HTMLParser):
    """Collects a page's elements, and its text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "path", "use", "image", "rect", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pytest.importorskip("matplotlib")
    results = make_results(
        num_tasks=5, name="a <b> & $x$", task_names=["<script>", "$y", "c", "d", "e"]
    )
    path = report.write_report(results, tmp_path_factory.mktemp("run"))
    return results, path


def test_page_needs_nothing_from_outside(written):
    text = written[1].read_text()
    page = Page(text)
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    links = {"src", "href", "xlink:href", "data", "poster", "srcset"}
    found = [
        value
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in links
    ]
    assert found
    assert all(value.startswith(("data:", "#")) for value in found)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert page.open == []


def test_page_has_no_identifier_twice(written):
    page = Page(written[1].read_text())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [a["xlink:href"] for _, a in page.elements if "xlink:href" in a]
    assert {link[1:] for link in used if link.startswith("#")} <= set(ids)


def test_page_escapes_names_and_shows_them(written):
    page = Page(written[1].read_text())
    assert "a <b> & $x$" in page.text
    assert "<script>" in page.text


def test_page_contains_the_numbers(written):
    results, path = written
    text = Page(path.read_text()).text
    for method in results.methods:
        estimate = report.estimate_return(method["source"])
        assert f"{estimate.mean:.1f} [{estimate.low:.1f}, {estimate.high:.1f}]" in text
    for part in ("2 groups among 5 tasks", "0.15", "2,000", "NVIDIA H100", "ad3c788"):
        assert part in text
    assert "ppo.learning_rate" in text and "0.0003" in text


def test_figures_are_written_for_papers(written):
    figures = written[1].parent / "figures"
    assert {path.name for path in figures.iterdir()} == {
        f"{name}.{kind}"
        for name in ("affinity", "learning_curves", "methods", "tasks")
        for kind in ("png", "pdf")
    }
    for path in figures.glob("*.png"):
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) < 500_000
        assert int.from_bytes(data[16:20], "big") >= 1_200  # pixels across


def test_report_is_the_same_every_time(written, tmp_path):
    results, path = written
    assert report.write_report(results, tmp_path).read_text() == path.read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"num_tasks": 3, "num_groups": 3, "num_updates": 1},
        {"num_tasks": 70, "num_groups": 12, "planted": False, "max_return": None},
        {"num_groups": 1, "affinity_method": "mean", "learning_curves": {}},
        {"num_tasks": 5, "num_groups": 2, "sign": -1.0, "max_return": None},
        {"num_tasks": 5, "num_groups": 2, "sign": 0.0, "max_return": None},
    ],
)
def test_unusual_runs_are_drawn_too(tmp_path, options):
    options = dict(options)
    pytest.importorskip("matplotlib")
    sign = options.pop("sign", None)
    results = make_results(**options)
    if sign is not None:  # returns that are all negative, or all 0
        for method in results.methods:
            method["source"] = (sign * np.array(method["source"])).tolist()
            method["target"] = None
        for curve in results.learning_curves.values():
            returns = np.array(curve["returns"])
            curve["returns"] = (sign * returns if sign else np.nan * returns).tolist()
    text = Page(report.write_report(results, tmp_path).read_text()).text
    num_groups = options["num_groups"]
    assert f"{num_groups} group{'s' * (num_groups > 1)} among" in text
    assert ("planted" in text) == options.get("planted", True)


def test_results_survive_json(tmp_path):
    results = make_results()
    path = tmp_path / "results.json"
    results.to_json(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    loaded = report.RunResults.from_json(path)
    for field in dataclasses.fields(results):
        expected, value = (getattr(r, field.name) for r in (results, loaded))
        np.testing.assert_equal(value, expected)
    assert np.isnan(loaded.learning_curves["meta-training"]["returns"][0][0])


def test_interval_resamples_episodes_within_tasks():
    returns = np.random.default_rng(0).normal(size=(1, 4, 30))
    estimate = report.estimate_return(returns)
    expected = statistics.bootstrap_interval(returns[0])
    assert (estimate.low, estimate.high) == expected
    np.testing.assert_allclose(estimate.by_task, returns[0].mean(axis=1))


def test_interval_of_several_draws_resamples_draws():
    returns = np.random.default_rng(0).normal(size=(6, 4, 30))
    returns += np.arange(6)[:, None, None]
    estimate = report.estimate_return(returns)
    by_draw = returns.mean(axis=(1, 2))
    assert (estimate.low, estimate.high) == statistics.bootstrap_interval(by_draw)
    np.testing.assert_allclose(estimate.by_draw, by_draw)


def test_summary_table_is_aligned_and_has_the_intervals():
    results = make_results()
    lines = report.summary_table(results).splitlines()
    assert len(lines) == 2 + len(results.methods)
    assert len(set(map(len, lines))) == 1
    for line, method in zip(lines[2:], results.methods, strict=True):
        low, high = statistics.bootstrap_interval(
            np.array(method["source"])[0]
            if len(method["source"]) == 1
            else np.mean(method["source"], axis=(1, 2))
        )
        assert line.startswith(method["name"])
        assert f"[{low:.1f}, {high:.1f}]" in line
    assert lines[2].endswith("1.00") and lines[3].endswith("-")
    assert lines[5].endswith("0.15")


def test_summary_table_leaves_out_what_was_not_measured():
    table = report.summary_table(make_results(num_tasks=20, planted=False))
    assert "NMI" not in table and "unseen" not in table


def test_success_is_shown_where_tasks_tell_it(tmp_path):
    results = make_results()
    methods = [
        method | {"success": np.full(np.shape(method["source"])[:2], 0.25 * i).tolist()}
        for i, method in enumerate(results.methods)
    ]
    told = dataclasses.replace(results, methods=methods)
    lines = report.summary_table(told).splitlines()
    assert "success" in lines[0] and "success" not in report.summary_table(results)
    assert [line for line in lines[2:] if "25.0%" in line] == [lines[3]]
    page = report.write_report(told, tmp_path).read_text()
    assert "25.0%" in page and "<th>success</th>" in re.sub(r"<th[^>]*>", "<th>", page)


def test_groups_are_in_the_order_of_their_first_task():
    assert report.order_by_group([1, 0, 1, 2, 0]) == [[0, 2], [1, 4], [3]]


def test_long_names_keep_their_ends():
    assert report._shorten("button-press-topdown-wall-v3") == (
        "button-press-topdown-wall-v3"
    )
    assert report._shorten("abcdefghij", length=6) == "abc…ij"


def test_smoothing_averages_what_is_known():
    values = np.array([[np.nan], [2.0], [4.0], [np.nan], [9.0]])
    np.testing.assert_allclose(
        report.smooth(values, 3), [[np.nan], [3.0], [3.0], [np.nan], [9.0]]
    )
    np.testing.assert_allclose(report.smooth(values, 1), values)
    np.testing.assert_allclose(report.smooth(values, 99)[[1, 2, 4], 0], 5.0)


def change_method(**changes):
    methods = make_results().methods
    return {"methods": [methods[0] | changes, *methods[1:]]}


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
            change_method(source=np.ones((1, 9, 4))),
            r"methods\[0\]\['source'\] must have shape \(any, 10, any\)",
        ),
        (
            change_method(target=np.ones((2, 50, 4))),
            r"methods\[0\]\['target'\] must have shape \(1, any, any\)",
        ),
        (change_method(source=np.full((1, 10, 4), np.nan)), "must be finite"),
        (
            change_method(success=[[0.5] * 3]),
            r"methods\[0\]\['success'\] must have shape \(1, 10\)",
        ),
    ],
)
def test_results_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_results(**changes)


def test_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pgx_jax\[experiments\]"):
        report.write_report(make_results(), tmp_path)


def with_uncertainty(**changes):
    results = make_results()
    matrix = np.array(results.affinity)
    same = np.equal.outer(results.groups["estimated"], results.groups["estimated"])
    uncertainty = {
        "lower": matrix - 0.3,
        "upper": matrix + 0.3,
        "co_assignment": np.where(same, 0.9, 0.1),
        "nmi": [1.0, 1.0, 0.5, 0.8],
    }
    return dataclasses.replace(results, uncertainty=uncertainty | changes)


def test_stability_is_shown_where_there_are_resamples(tmp_path):
    page = report.write_report(with_uncertainty(), tmp_path).read_text()
    assert (tmp_path / "figures" / "stability.png").exists()
    assert 'id="stability"' in page
    assert "From 4 bootstrap resamples" in page
    said = re.search(r"mean NMI of <b>0.82</b> \((.*) by chance\); 50% of them", page)
    # 0.086, by the hypergeometric distribution of two halves of ten tasks.
    assert float(said[1]) == pytest.approx(0.086, abs=0.02)
    plain = report.write_report(make_results(), tmp_path / "plain").read_text()
    assert 'id="stability"' not in plain


def test_uncertainty_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="uncertainty\\['lower'\\] must have shape"):
        with_uncertainty(lower=np.zeros((3, 3)))


def test_uncertainty_survives_the_file(tmp_path):
    results = with_uncertainty()
    results.to_json(tmp_path / "results.json")
    again = report.RunResults.from_json(tmp_path / "results.json")
    assert again.uncertainty == results.uncertainty
