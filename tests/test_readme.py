"""README's code runs as it stands, and its commands are those that CI runs."""

import re
from pathlib import Path

from pgx_jax.runtime import allow_promotion

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_example_prints_the_groups_that_it_says(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with allow_promotion():  # as under the settings that users have
        exec(example, {})
    printed = capsys.readouterr().out.strip()
    assert printed == "[0 0 0 0 0 1 1 1 1 1]"
    assert printed in example


def test_test_command_is_what_ci_runs():
    assert "bash .ci/run" in README


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_links_lead_to_files():
    links = re.findall(r"(?:\]\(|src=\")((?!http)[^)\s\"]+)", README)
    assert len(links) > 20
    assert [x for x in links if not (Path(__file__).parent.parent / x).exists()] == []
