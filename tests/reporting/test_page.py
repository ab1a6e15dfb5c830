"""The page: what is on it, and that it needs nothing else."""

import dataclasses
import html.parser
import math
import re
import sys

import numpy as np
import pytest

from pgx_jax.reporting.captions import write_captions
from pgx_jax.reporting.figures import draw_figures
from pgx_jax.reporting.page import render_page, write_report
from pgx_jax.reporting.summary import estimate_return, summarize, summary_table


def make_page(results):
    """The page alone, without the files of figures."""
    methods = summarize(results)
    return render_page(results, methods, draw_figures(results, methods))


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
def written(make_results, tmp_path_factory):
    results = make_results(
        num_tasks=5, name="a <b> & $x$", task_names=["<script>", "$y", "c", "d", "e"]
    )
    path = write_report(results, tmp_path_factory.mktemp("run"))
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
        estimate = estimate_return(method["source"])
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
    assert write_report(results, tmp_path).read_text() == path.read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"num_tasks": 3, "num_groups": 3, "num_updates": 1},
        {"num_tasks": 70, "num_groups": 12, "planted": False},
        {"num_groups": 1, "affinity_method": "mean", "learning_curves": {}},
        {"num_tasks": 5, "num_groups": 2, "sign": -1.0},
        {"num_tasks": 5, "num_groups": 2, "sign": 0.0},
    ],
)
def test_unusual_runs_are_drawn_too(make_results, options):
    options = dict(options)
    sign = options.pop("sign", None)
    results = make_results(**options)
    if sign is not None:  # returns that are all negative, or all 0
        for method in results.methods:
            method["source"] = (sign * np.array(method["source"])).tolist()
            method["target"] = None
        for curve in results.learning_curves.values():
            returns = np.array(curve["returns"])
            curve["returns"] = (sign * returns if sign else np.nan * returns).tolist()
    text = Page(make_page(results)).text
    num_groups = options["num_groups"]
    assert f"{num_groups} group{'s' * (num_groups > 1)} among" in text
    assert ("planted" in text) == options.get("planted", True)


def test_success_is_shown_where_tasks_report_it(make_results):
    results = make_results()
    methods = [
        method | {"success": np.full(np.shape(method["source"])[:2], 0.25 * i).tolist()}
        for i, method in enumerate(results.methods)
    ]
    reported = dataclasses.replace(results, methods=methods)
    lines = summary_table(reported).splitlines()
    assert "success" in lines[0] and "success" not in summary_table(results)
    assert [line for line in lines[2:] if "25.0%" in line] == [lines[3]]
    page = make_page(reported)
    assert "25.0%" in page and "<th>success</th>" in re.sub(r"<th[^>]*>", "<th>", page)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_missing_packages_name_the_extra(make_results, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pgx_jax\[experiments\]"):
        write_report(make_results(), tmp_path)


def test_stability_is_shown_where_there_are_resamples(
    make_results, add_uncertainty, tmp_path
):
    page = write_report(add_uncertainty(make_results()), tmp_path).read_text()
    assert (tmp_path / "figures" / "stability.png").exists()
    assert 'id="stability"' in page
    assert "From 4 bootstrap resamples" in page
    said = re.search(r"mean NMI of 0.82 \((.*) by chance\); 50% of them", page)
    # 0.086, by the hypergeometric distribution of two halves of ten tasks.
    assert float(said[1]) == pytest.approx(0.086, abs=0.02)
    plain = make_page(make_results())
    assert 'id="stability"' not in plain


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0313, "3.1%"), (0.5, "50%"), (3.04, "304%"), (58.4, "5,840%")],
)
def test_distances_are_written_as_percentages(make_results, share, text):
    results = make_results(relative_distance={"median": share, "max": math.nan})
    caption = write_captions(results, summarize(results))["affinity"]
    assert f"by {text} (median) and at most an unknown share of" in caption
