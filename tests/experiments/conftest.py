"""What tests of the experiments share."""

import importlib.util
from pathlib import Path

import pytest
from script_flags import own_flags

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="session")
def load_script():
    """Loads a script as a module; others may define flags of the same names."""

    def load(name, flag_names):
        spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch, own_flags(flag_names):
            patch.syspath_prepend(str(EXPERIMENTS))
            spec.loader.exec_module(module)
        return module

    return load
