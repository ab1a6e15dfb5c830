"""What tests of the experiments share."""

import importlib.util
from pathlib import Path

import pytest
from absl import flags

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="session")
def load_script():
    """Loads a script as a module; others may define flags of the same names."""

    def load(name, flag_names):
        others = {x: flags.FLAGS[x] for x in flag_names if x in flags.FLAGS}
        for x in others:
            delattr(flags.FLAGS, x)
        spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(EXPERIMENTS))
            spec.loader.exec_module(module)
        for x in flag_names:
            delattr(flags.FLAGS, x)
        for x, flag in others.items():
            flags.FLAGS[x] = flag
        return module

    return load
