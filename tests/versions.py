"""Tests the package under the lowest or the newest versions that pyproject.toml allows.

    python tests/versions.py lowest
    python3.12 tests/versions.py newest

Makes a virtual environment of the Python that runs this and installs the package, its
extras and what the tests need. In `lowest`, every requirement of pyproject.toml is held
at the version that it names, so that a floor which is not true fails here; what those
packages require in turn is left to pip. Then runs a few tests of every room.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = ("dev", "wandb")
TESTS = (
    "tests/test_import.py",
    "tests/estimation/test_estimate.py::test_the_estimate_equals_the_stages_done_by_hand",
    "tests/estimation/test_estimate.py::test_numbers_under_jit_are_those_outside",
    "tests/estimation/test_estimate.py::test_vmap_over_keys_and_penalties_equals_a_loop",
    "tests/grouping/test_task_groups.py",
    "tests/grouping/test_clustering.py::test_planted_groups_are_recovered",
    "tests/grouping/test_clustering.py::test_fifty_tasks_are_grouped_by_scs",
    "tests/envs/test_locomotion.py::test_later_steps_are_those_of_brax",
    "tests/training/test_ppo.py::test_opposite_tasks_need_two_policies",
    "tests/pipeline/test_run.py::test_run_leaves_results_metrics_and_report",
    "tests/rendering/test_video.py::test_files_hold_all_frames",
    "tests/runs",
    "tests/cli",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("versions", choices=("lowest", "newest"))
    parser.add_argument(
        "--environment",
        type=Path,
        help="where to make the virtual environment, and keep it; else a temporary one",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        environment = arguments.environment or Path(temporary, "environment")
        constraints = Path(temporary, "constraints.txt")
        floors = find_floors() if arguments.versions == "lowest" else []
        constraints.write_text("\n".join(floors))
        venv.create(environment, with_pip=True)
        python = str(environment / "bin" / "python")
        install = [python, "-m", "pip", "install", "-q", "--upgrade"]
        package = f"{ROOT}[{','.join(EXTRAS)}]"
        subprocess.run([*install, "-c", constraints, "-e", package], check=True)
        subprocess.run([python, "-m", "pip", "list"], check=True)
        return subprocess.run([python, "-m", "pytest", *TESTS], cwd=ROOT).returncode


def find_floors() -> list[str]:
    """`name==version` for every `name>=version` among the requirements that are tested.

    Raises:
      ValueError: a requirement has no floor.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = set()
    requirements = [*project["dependencies"]]
    extras = [*EXTRAS]
    while requirements or extras:
        if not requirements:
            requirements += project["optional-dependencies"][extras.pop()]
            continue
        requirement = requirements.pop()
        if own := re.fullmatch(rf"{project['name']}\[(.+)\]", requirement):
            extras += own[1].split(",")
            continue
        match = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement!r} has no lowest version")
        floors.add(f"{match[1]}=={match[2]}")
    return sorted(floors)


if __name__ == "__main__":
    sys.exit(main())
