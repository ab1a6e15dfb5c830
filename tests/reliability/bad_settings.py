"""Command lines of `pgx_jax run` that are to be refused."""

import itertools
import types
import typing
from typing import NamedTuple

from pgx_jax.pipeline.config import PipelineConfig
from pgx_jax.settings import Settings, field_types

CONFIG = "--config=cartpole_planted"
HUGE = "100000000000000000000"
NO_INTEGERS = ("abc", "1.5", "", "1e3", "[3]", HUGE, "9" * 5000, "None", "nan")
NO_FLOATS = ("abc", "", "nan", "inf", "-inf", "(1,)", "None", "1e400", "true")
NO_SIZES = ("abc", "(8, 'x')", "(1.5,)", "{}", "(8, -1)", f"(8, {HUGE})", "(", "None")

# Integers that are too small, and that the suite or other settings do not allow.
LEAST = {
    "seed": ("-1", "4294967296"),
    "num_devices": ("0", "1000"),
    "estimation.num_subsets": ("0", "3", "1000000000", "100001"),
    "estimation.subset_size": ("1", "11"),
    "estimation.dim": ("0", "100000", "None"),
    "estimation.num_rollouts": ("1", "0"),
    "estimation.max_transitions": ("0", "100", "65536"),
    "estimation.num_envs": ("0", "3", "6"),
    "estimation.num_resamples": ("-1", "1000000000"),
    "evaluation.num_episodes": ("0", "2000000000"),
    "grouping.num_random_draws": ("-1", "1001"),
    "grouping.num_candidates": ("0", "1001"),
    "grouping.num_groups": ("0", "11"),
    "adaptation.num_updates": ("-1", "5"),
    "adaptation.num_selection_episodes": ("0", "4"),  # without targets
    "inner.num_steps": ("0", "2"),  # without MAML, as inner.learning_rate
    "network.critic_width": ("0", "-1", "64"),
    "network.critic_depth": ("0", "-1", "3", "101"),
    "network.num_modules": ("0", "-1", "3"),
    "ppo.num_minibatches": ("0", "3"),
    "ppo.num_envs": ("0", "-4", "10000000", "2000000000"),
}
FLOATS = {
    "ppo.discount": ("-0.1", "1.1"),
    "ppo.gae_lambda": ("-0.1", "1.1"),
    "ppo.value_decay": ("-0.1", "1"),
    "ppo.learning_rate": ("0", "-1", "1e-60", "1e39"),
    "ppo.clip_epsilon": ("0",),
    "ppo.max_gradient_norm": ("0",),
    "ppo.entropy_cost": ("-1",),
    "ppo.value_cost": ("-1",),
    # Neither of gradients nor of returns are weights asked for, so that none of their
    # settings is of use.
    "ppo.gradients.radius": ("-1", "0.5"),
    "ppo.gradients.learning_rate": ("0", "-1", "0.1"),
    "ppo.gradients.decay": ("-1", "0.1"),
    "ppo.gradients.restoring_force": ("-1", "1"),
    "ppo.return_weights.learning_rate": ("0", "1"),
    "ppo.return_weights.penalty": ("-1", "2"),
    "ppo.return_weights.most": ("0", "1"),
    "ppo.return_weights.alpha": ("-1", "2"),
    "ppo.return_weights.power": ("2", "0"),
    "ppo.return_weights.target": ("0", "1"),
    "ppo.return_weights.step": ("0", "1"),
    "ppo.return_weights.smoothness": ("-1", "1"),
    "ppo.return_weights.decay": ("1", "0.5"),
    "inner.learning_rate": ("0", "-1", "0.2"),
    "estimation.stable_agreement": ("0", "1.1"),
    "estimation.l2": ("0", "-1"),
    "estimation.ridge": ("0", "-1"),
    "estimation.max_relative_distance": ("0", "0.1"),
    "estimation.held_out_fraction": ("1", "-0.1", "0.5"),
}
SIZES = {
    "network.task_embeddings": ("((1,),)", "(('a',),)"),
    "network.hidden_sizes": ("()", "(0,)", "0", "(30000, 30000)", "(1000000000, 9)"),
    "grouping.other_num_groups": ("(0,)", "(3, 3)", "(11,)"),
    "ppo.return_weights.floors": ("((0, 1.5),)", "((0, 1), (0, 2))", "((0,),)"),
    "ppo.return_weights.ceilings": ("((0, 1.5),)", "((-1, 2),)"),
    "ppo.return_weights.preferences": ("(-1.0,)", "(1.0, 2.0)"),
    "ppo.return_weights.ideals": ("(1.0,)",),
    "ppo.return_weights.origins": ("(1.0,)",),
}
# Of a logistic regression of 8,192 transitions a task, in 16 environments.
LOGISTIC = {
    "estimation.held_out_fraction": ("0.99999", "1", "0.00001"),
    "estimation.resample_length": ("0", "4097"),
    "estimation.num_transitions": ("0", "8191", "-16"),
    "estimation.dim": ("0", "4611", "100000"),
}


class Line(NamedTuple):
    """A command line.

    Attributes:
      fields: that the message must name.
      arguments: of the command, but for the workdir.
    """

    fields: tuple[str, ...]
    arguments: tuple[str, ...]


def list_fields(cls=PipelineConfig, prefix=""):
    """Pairs of every field's path and type."""
    for name, hint in field_types(cls).items():
        if isinstance(hint, type) and issubclass(hint, Settings):
            yield from list_fields(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


def bad_values(path, hint):
    """Texts that a field of that type does not take."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = set(typing.get_args(hint)) - {types.NoneType}
    if hint is int:
        values = (*NO_INTEGERS, *LEAST.get(path, ("0", "-3")))
    elif hint is float:
        values = (*NO_FLOATS, *FLOATS[path])
    elif hint is bool:
        values = ("maybe", "2", "", "None")
    elif hint is str:
        values = ("", "no_such_name", "None", "0")
    else:
        values = (*NO_SIZES, *SIZES[path])
    needed = "None" in LEAST.get(path, ())
    return [x for x in values if not (optional and x == "None" and not needed)]


def every_bad_value():
    """Every field with every value that it does not take."""
    lines = []
    for path, hint in list_fields():
        lines += [
            Line((path,), (CONFIG, f"--config.{path}={value}"))
            for value in dict.fromkeys(bad_values(path, hint))
        ]
    for path, values in LOGISTIC.items():
        logistic = (
            "--config.estimation.regression=logistic",
            "--config.grouping.method=clustering",
            "--config.estimation.num_transitions=8192",
        )
        lines += [
            Line((path,), (CONFIG, *logistic, f"--config.{path}={value}"))
            for value in values
        ]
    return lines


def every_misspelt_field():
    """Every field with a letter too few, with one too many, and as a section."""
    lines = []
    for path, _ in list_fields():
        for wrong in (path[:-1], f"{path}s", f"{path}.x"):
            lines.append(Line((wrong,), (CONFIG, f"--config.{wrong}=1")))
    return lines


def other_lines():
    """What is wrong with the flags themselves, or with several settings."""
    flags = [
        ("--config", ("--config=cartpole_plante",)),
        ("--config", ("--config", "no_such_file.py")),
        ("--config", ("--config=",)),
        ("--config", ()),
        ("--config", ("--config=.",)),
        ("foo.bar", (CONFIG, "--config.foo.bar=1")),
        ("estimation.foo.bar", (CONFIG, "--config.estimation.foo.bar=1")),
        ("ppo", (CONFIG, "--config.ppo=1")),
        ("suite", (CONFIG, "--config.suite=cartpole")),
        ("seed", (CONFIG, "--config.seed")),
        ("ppo.num_envs", (CONFIG, "--config.ppo.num_envs")),
        ("", (CONFIG, "--config.=1")),
        (".seed", (CONFIG, "--config..seed=1")),
        ("workdri", (CONFIG, "--workdri=x")),
        ("tensorboard", (CONFIG, "--tensorboard=maybe")),
        ("stray", (CONFIG, "stray")),
        ("--wandb", (CONFIG, "--wandb=")),
        ("seed", (CONFIG, "--noconfig.seed")),
        ("suite.name", (CONFIG, "--config.suite.name=cartpole_v1")),
    ]
    together = [
        ("estimation.evaluator", "estimation.evaluator=rollout"),
        ("evaluation.sampled_too", "evaluation.sampled_too"),
        ("suite.task_id", "suite.task_id=true"),
        ("network.critic_width", "network.critic_width=60000"),
        ("network.num_modules", "network.num_modules=1000000"),
    ]
    beside = {
        "evaluation.sampled_too": ("--noconfig.evaluation.deterministic",),
        "suite.task_id": (
            "--config.suite.name=cartpole",
            "--config.adaptation.num_updates=3",
        ),
        "network.critic_width": ("--config.network.critic=wide_residual",),
        "network.num_modules": ("--config.network.name=paco", "--config.suite.task_id"),
    }
    lines = [Line((field,), arguments) for field, arguments in flags]
    lines += [
        Line((field,), (CONFIG, f"--config.{change}", *beside.get(field, ())))
        for field, change in together
    ]
    return lines


def pairs():
    """Two bad values of different fields in one line."""
    values = [
        Line((path,), (f"--config.{path}={bad_values(path, hint)[0]}",))
        for path, hint in list_fields()
    ]
    return [
        Line(one.fields + two.fields, (CONFIG, *one.arguments, *two.arguments))
        for one, two in itertools.pairwise(values)
    ]


def all_lines():
    """All of them."""
    return [*every_bad_value(), *every_misspelt_field(), *other_lines(), *pairs()]
