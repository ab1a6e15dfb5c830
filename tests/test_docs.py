"""The code on the docs' pages and in the notebook runs as it stands."""

import contextlib
import importlib
import io
import json
import re
from pathlib import Path

import matplotlib
import pytest

from pgx_jax.runtime import allow_promotion

matplotlib.use("Agg")
DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if "```python" in path.read_text(encoding="utf-8")
    and path.stem != "trained_policies"  # of a run: tests/pipeline/test_policies.py
]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_examples_print_what_the_page_says(page):
    text = page.read_text(encoding="utf-8")
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        printed = io.StringIO()
        # Users' programs, and Brax in them, promote implicitly.
        with contextlib.redirect_stdout(printed), allow_promotion():
            exec(example, {})
        expected = re.findall(r"print\(.*\)  # (.+)", example)
        assert printed.getvalue().splitlines() == expected


@pytest.mark.parametrize("package", ["pgx_jax", "pgx_jax.envs"])
def test_every_public_name_is_on_a_page_of_the_api(package):
    pages = "".join(x.read_text(encoding="utf-8") for x in DOCS.glob("api/*.md"))
    listed = set(re.findall(rf"^::: {package}\.(\w+)$", pages, re.MULTILINE))
    constants = {"SUITES"}  # which the page of environments describes
    assert set(importlib.import_module(package).__all__) - listed <= constants


def test_notebook_runs_from_top_to_bottom_and_finds_the_planted_groups(capsys):
    """With fewer bootstrap samples, on which the groups do not depend."""
    notebook = json.loads((DOCS / "quickstart.ipynb").read_text(encoding="utf-8"))
    namespace = {}
    code = ["".join(x["source"]) for x in notebook["cells"] if x["cell_type"] == "code"]
    assert sum("num_resamples=20," in source for source in code) == 1
    for source in code:
        exec(source.replace("num_resamples=20,", "num_resamples=4,"), namespace)
    printed = capsys.readouterr().out
    assert "groups: [0 0 0 0 0 1 1 1 1 1]" in printed
    assert not any(cell.get("outputs") for cell in notebook["cells"])
