"""A whole run on several devices, which goes on on another number of them."""

import jax
import pytest
from forced_devices import run_on_eight
from small_run import SMALL

from pgx_jax.pipeline.checks import find_problems

PROGRAM = """
    import dataclasses, sys
    import numpy as np
    from small_run import SMALL
    from pgx_jax.pipeline.config import PipelineConfig
    from pgx_jax.pipeline.run import run_pipeline
    from pgx_jax.pipeline.seeds import run_seeds

    sums = dict(num_transitions=64, num_subsets=40, dim=16, num_resamples=4)
    race = dict(num_candidates=2, num_race_episodes=4, num_random_draws=1)
    config = PipelineConfig.from_dict(SMALL | dict(estimation=sums, grouping=race))

    def run(workdir, number, **more):
        chosen = dataclasses.replace(config, num_devices=number)
        return run_pipeline(chosen, sys.argv[1] + workdir, tensorboard=False, **more)

    def interrupt(stage, step, metrics):
        if stage == "race_training":
            raise KeyboardInterrupt

    one = run("/one", 1)
    try:
        run("/several", 4, callback=interrupt)
    except KeyboardInterrupt:
        pass
    for workdir in ("/several", "/two"):
        results = run(workdir, 2)
        np.testing.assert_allclose(results.affinity, one.affinity, atol=1e-4)
        curves = [x.learning_curves["meta-training"] for x in (results, one)]
        np.testing.assert_allclose(curves[0]["returns"], curves[1]["returns"])
        assert results.groups == one.groups
    seeds = dataclasses.replace(config, num_devices=2)
    found = run_seeds(seeds, [0, 1], sys.argv[1] + "/seeds", tensorboard=False)
    assert [x.seed for x in found] == [0, 1]
    print("same")
"""


@pytest.mark.reliability
def test_a_run_goes_on_on_other_devices(tmp_path):
    """Returns are those of one device to the last digit: no action of so few updates
    depends on the order of sums."""
    assert run_on_eight(PROGRAM, str(tmp_path)) == "same"


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        (4, []),
        (3, ["ppo.num_envs", "evaluation.num_episodes"]),
        (None, ["ppo.num_envs", "evaluation.num_episodes"]),
        (9, ["num_devices"]),
    ],
)
def test_what_devices_do_not_divide_is_refused(number, fields, monkeypatch):
    """Four environments and episodes, where there are eight devices."""
    monkeypatch.setattr(jax, "local_device_count", lambda: 8)
    _, problems = find_problems(SMALL | {"num_devices": number})
    assert [problem.field for problem in problems] == fields
