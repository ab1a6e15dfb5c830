"""What is not allowed is refused before a workdir exists, in one message.

A bad value of every field is tried with the other tests, all command lines of
`bad_settings.py` by `pytest -m reliability`.
"""

import sys

import jax
import pytest
from absl.testing import flagsaver
from hypothesis import given, settings
from hypothesis import strategies as st
from reliability.bad_settings import CONFIG, all_lines, every_bad_value, other_lines

import pgx_jax.runs.locks
from pgx_jax.cli import run as command
from pgx_jax.cli.config_files import load_config
from pgx_jax.envs import SUITES, make_suite
from pgx_jax.pipeline.checks import find_problems, make_checked_suite, make_networks
from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.pipeline.forecast import count_steps, measure_memory
from pgx_jax.settings import Settings, SettingsError, field_types
from pgx_jax.training.ppo_config import PPOConfig


class Reached(Exception):
    """The workdir would have been made."""


@pytest.fixture
def refusal(monkeypatch, tmp_path):
    """`refusal(*arguments)` is the message of `pgx_jax run`; None if it goes on."""

    def make_workdir(*_, **__):
        raise Reached

    monkeypatch.setattr(pgx_jax.runs.locks, "lock", make_workdir)
    monkeypatch.setattr(command, "quiet", lambda **_: None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, workdir="run"):
        argv = ["pgx_jax run", f"--workdir={workdir}", *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        with flagsaver.flagsaver(), pytest.raises((SystemExit, Reached)) as ended:
            command.main()
        assert not list(tmp_path.iterdir())
        return None if ended.type is Reached else ended.value.code

    return run


def check_refused(refusal, lines):
    late = []
    for line in lines:
        message = refusal(*line.arguments)
        named = message is not None and all(field in message for field in line.fields)
        if not named or not message.startswith("error: "):
            late.append((line, message))
    assert not late, "\n".join(map(str, late))


def test_one_bad_value_of_every_field_is_refused(refusal):
    first = {line.fields: line for line in reversed(every_bad_value())}
    check_refused(refusal, [*first.values(), *other_lines()])
    assert len(first) >= 50


@pytest.mark.reliability
def test_every_bad_line_is_refused(refusal):
    lines = all_lines()
    assert len(lines) >= 250
    check_refused(refusal, lines)


def test_what_is_allowed_goes_on(refusal):
    allowed = [
        (),
        ("--config.seed=4294967295",),
        ("--config.network.hidden_sizes=64",),
        ("--config.grouping.num_groups", "3"),
        ("--config.grouping.num_groups=none", "--config.suite.task_id"),
        ("--config.estimation.dim=4610", "--noconfig.evaluation.deterministic"),
    ]
    for arguments in allowed:
        assert refusal(CONFIG, *arguments) is None


def test_all_problems_are_in_one_message(refusal):
    message = refusal(
        CONFIG,
        "--config.seed=-1",
        "--config.ppo.discoun=0.9",
        "--config.suite.name=cartpole_plantd",
        "--config.network.activation=tan",
        "--config.evaluation.num_episodes=0",
        workdir="",
    )
    assert message.splitlines()[1:] == [
        "  --workdir must name a directory, got ''",
        "  ppo.discoun does not exist (did you mean discount?); ppo has "
        + ", ".join(field_types(PPOConfig)),
        "  network.activation must be one of tanh, relu, swish (did you mean tanh?), "
        "got 'tan'",
        "  evaluation.num_episodes must be at least 1, got 0",
        "  seed must be in [0, 2^32), got -1",
        f"  suite.name must be one of {', '.join(sorted(SUITES))} (did you mean "
        "cartpole_planted?), got 'cartpole_plantd'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings = 1", "defines no function get_config"),
        ("get_config = 1", "defines no function get_config"),
        ("def get_config(", "fails with SyntaxError: "),
        ("import no_such_module", "fails with ModuleNotFoundError: "),
        ("def get_config(): 1 / 0", "get_config fails with ZeroDivisionError: "),
        ("def get_config(): return {}", "must return a ConfigDict .* got dict {}"),
        ("def get_config(): pass", "must return a ConfigDict .* got NoneType None"),
    ],
)
def test_config_files_that_give_no_settings_are_told_apart(tmp_path, text, message):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(str(path))
    assert [x.name for x in tmp_path.iterdir()] == ["config.py"]


def test_config_files_may_return_either_kind_of_settings(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "from pgx_jax.pipeline.config import PipelineConfig\n"
        "def get_config(seed): return PipelineConfig(seed=int(seed))\n"
    )
    assert load_config(f"{path}:7") == PipelineConfig(seed=7).to_dict()
    assert load_config("cartpole")["suite"]["name"] == "cartpole"


# Values of any kind, and those that are near what fields take.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-1, 40),
    st.floats(),
    st.sampled_from(["logistic", "rollout", "clustering", "scratch", "linear", ""]),
    st.lists(st.integers(-1, 70), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
SECTIONS = {
    name: sorted(field_types(hint))
    for name, hint in field_types(PipelineConfig).items()
    if isinstance(hint, type) and issubclass(hint, Settings)
}
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "seed": VALUES,
        "checkpoint_every": VALUES,
        **{
            name: st.dictionaries(st.sampled_from([*fields, "other"]), VALUES)
            for name, fields in SECTIONS.items()
        },
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(CONFIGS)
def test_any_config_is_read_or_refused_by_field(values):
    config, problems = PipelineConfig.read(values)
    if not problems:
        assert PipelineConfig.from_dict(config.to_dict()) == config
        return
    with pytest.raises(SettingsError) as refused:
        PipelineConfig.from_dict(values)
    assert refused.value.problems == tuple(problems)
    given_fields = {
        f"{section}.{name}"
        for section, inner in values.items()
        if isinstance(inner, dict)
        for name in inner
    } | set(values)
    for problem in problems:
        assert f"{problem.field} {problem.text}" in str(refused.value)
        blamed = {problem.field, *problem.reads}
        # Of defaults, that of minibatches goes with given environments, for example.
        assert blamed & given_fields or any(
            x.startswith(f"{problem.field.partition('.')[0]}.") for x in given_fields
        )


def test_gradients_of_every_task_are_among_the_memory():
    sizes = {}
    for method in ("mean", "pcgrad"):
        config = PipelineConfig.from_dict({"ppo": {"gradients": {"method": method}}})
        suite = make_checked_suite(config)
        parts = measure_memory(config, suite, make_networks(config, suite))
        sizes[method] = {part.name: part.size for part in parts}
    # A race trains as many policies as rows of tasks; Adam keeps three such arrays.
    stacked = sizes["pcgrad"].pop("gradients of every task")
    assert 3 * stacked == sizes["mean"]["parameters and optimizers"]
    assert sizes["pcgrad"] == sizes["mean"]


def test_a_dry_run_says_what_the_run_takes_and_touches_no_disk(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(command, "quiet", lambda **_: None)
    monkeypatch.chdir(tmp_path)
    small = {
        "network.hidden_sizes": "(8,)",
        "ppo.num_envs": "4",
        "ppo.unroll_length": "16",
        "ppo.num_minibatches": "2",
        "estimation.dim": "16",
        "estimation.num_transitions": "1024",
        "seed": "7",
    }
    changes = [f"--config.{field}={value}" for field, value in small.items()]
    monkeypatch.setattr(sys, "argv", ["run", CONFIG, "--dry-run", *changes])
    enabled = jax.config.jax_enable_compilation_cache
    with flagsaver.flagsaver():
        command.main()
    jax.config.update("jax_enable_compilation_cache", enabled)
    shown = capsys.readouterr().out
    assert '"seed": 7,' in shown and "A1, A2, A3, A4, A5, B1" in shown
    # Weights and biases: 4 * 8 + 8 and 8 * 2 + 2 of the policy, 40 and 9 of the critic.
    assert "parameters: 58 of the policy, 49 of the critic" in shown
    # 20 updates of 64 steps of 10 tasks; 1,024 transitions of each.
    (meta,) = [x for x in shown.splitlines() if x.startswith("meta_training ")]
    (collected,) = [x for x in shown.splitlines() if x.startswith("estimation ")]
    assert meta.split()[1] == "12.8k" and collected.split()[1] == "10.2k"
    assert shown.endswith("nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_steps_of_every_stage_are_counted_before_the_run():
    config, problems = find_problems(load_config("cartpole_planted"))
    assert not problems
    stages = count_steps(config, make_suite("cartpole_planted"))
    steps = {stage.name: stage.env_steps for stage in stages}
    update = 16 * 128 * 10  # steps of all ten tasks
    assert steps == {
        "meta_training": 20 * update,
        "estimation": 32_768 * 10,
        # Six candidates, one policy and single tasks.
        "race_training": 8 * 20 * update,
        "race_evaluation": 8 * 10 * 32 * 500,
        # By gradient similarity; one policy, five draws and planted groups, which do
        # without the transitions of the estimate, 16 updates' worth.
        "group_training": 20 * update + 7 * (20 + 16) * update,
        "evaluation": 9 * 10 * 64 * 500,
    }
