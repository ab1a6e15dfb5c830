"""Every table has commands that exist, and results and pages that are where it says."""

import csv
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def in_package(file):
    """Two scripts have their flags in the package."""
    return re.sub(r"experiments/(run|aggregate).py", r"pgx_jax/cli/\1.py", file)


@pytest.fixture(scope="module")
def script(load_script):
    flags = ["table", "size", "output", "dry_run", "page"]
    return load_script("reproduce", flags)


def test_commands_are_of_scripts_that_have_their_flags(script, tmp_path):
    for name in script.TABLES:
        for size in ("cpu", "full"):
            for python, file, *arguments in script.find_commands(name, size, tmp_path):
                assert python == "python"
                source = (ROOT / in_package(file)).read_text(encoding="utf-8")
                source += (ROOT / "benchmarks/common.py").read_text(encoding="utf-8")
                for flag in re.findall(r"--(?:no)?(\w+)", " ".join(arguments)):
                    assert re.search(rf"\"(--)?{flag}\"", source), (name, file, flag)
                assert "{" not in "".join(arguments)


def test_stored_results_and_their_pages_are_there(script):
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for entry in script.TABLES.values():
        assert entry.page or entry.missing
        for path in entry.results:
            assert script.load_documents(ROOT / path)
        if entry.page:
            assert (ROOT / "docs/results" / entry.page).exists()
    assert "results/paper.md" in nav


def test_provenance_is_read_from_stored_files(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "ROOT", tmp_path)
    runs = {
        "cartpole": {"device": "CPU", "commit": "0123456789abc-dirty"},
        "highway": {"device": ["CPU", "H100"], "commit": None},
        "seconds": [3600.0, 1800.0],
    }
    (tmp_path / "a.json").write_text(json.dumps(runs))
    entry = script.TABLES["1"]._replace(results=("a.json",))
    assert script.show_provenance(entry) == ["CPU; H100", "0123456-dirty", "1.5"]


def test_an_unknown_name_lists_those_that_there_are(script, tmp_path):
    with pytest.raises(ValueError, match=r"1: Table 1.*\n  2: Table 2(.|\n)*got '4'"):
        script.find_commands("4", "cpu", tmp_path)


def test_tables_become_csv_without_their_rules(script, tmp_path):
    table = script.Table(["a", "b|c"], [["x", "1.0"], ["y", "2, 3"]]).to_markdown()
    (tmp_path / "t.md").write_text(f"Text\n\n{table}\n\nmore\n\n| d |\n| --: |\n| 4 |")
    script.write_csv(tmp_path / "t.md")
    with (tmp_path / "t_1.csv").open(newline="") as file:
        found = list(csv.reader(file))
    assert found == [["a", "b|c"], ["x", "1.0"], ["y", "2, 3"]]
    assert (tmp_path / "t_2.csv").read_text().split() == ["d", "4"]
