"""The commands of an installed package."""

import subprocess
import sys

import pytest

from pgx_jax import cli


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from pgx_jax.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
    )


def test_help_lists_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pgx_jax", "--help"])
    cli.main()
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a command"),
        (["rum"], "no command 'rum'"),
        (["render", "--output=", "--workdir=", "--seed=-1"], "--seed must be in [0, "),
        (["run", "--config=cartpol", "--workdir=unused"], "got 'cartpol'"),
        (["run", "--config", "cartpol", "--workdir=unused"], "got 'cartpol'"),
        (
            ["run", "--config=cartpole", "--workdir=unused", "--config.sed=1"],
            "field sed",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_one_message(arguments, message):
    result = run(*arguments)
    assert result.returncode != 0
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds="], "--seeds must be different integers in [0, 2^32), got ''"),
        (["--seeds=0,1,0"], "--seeds must be different integers"),
        (["--seeds=0,x"], "got '0,x'"),
        (["--seeds=0,1", "--config.seed=2"], "--seeds cannot stand beside --config.se"),
        (["--seeds=0,1", "--debug"], "--seeds cannot stand beside --debug"),
    ],
)
def test_seeds_are_refused_by_name(tmp_path, flags, message):
    workdir = tmp_path / "runs"
    result = run("run", "--config=cartpole", f"--workdir={workdir}", *flags)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
