"""The commands of an installed package."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pgx_jax import cli

# Commands in processes of their own, forked from one that has imported what they need.
PROGRAM = """
import json, os, sys, tempfile
import pgx_jax.cli.config_files
import pgx_jax.memory
import pgx_jax.pipeline.checks
import pgx_jax.pipeline.run
import pgx_jax.reporting.page
import pgx_jax.reporting.summary
from pgx_jax import cli

for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stdin = open(os.devnull)
            sys.argv = ["pgx_jax", *json.loads(line)]
            cli.main()
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [os.pread(x.fileno(), 1 << 20, 0).decode() for x in (out, err)]
        print(json.dumps([code, *texts]), flush=True)
"""


@pytest.fixture(scope="module")
def run():
    """`run(*arguments)` runs `pgx_jax`; returns its exit code and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def run_command(*arguments):
            print(json.dumps(arguments), file=process.stdin, flush=True)
            code, out, err = json.loads(process.stdout.readline())
            return SimpleNamespace(returncode=code, stdout=out, stderr=err)

        yield run_command


def test_help_lists_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pgx_jax", "--help"])
    cli.main()
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in cli.COMMANDS)


def test_help_of_a_command_lists_its_flags(run):
    printed = run("run", "--help").stdout
    assert printed.startswith("Runs the whole pipeline of one config")
    assert "--seeds: Run these seeds side by side" in " ".join(printed.split())


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
def test_what_is_not_there_is_refused_in_one_message(run, arguments, message):
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
def test_seeds_are_refused_by_name(run, tmp_path, flags, message):
    workdir = tmp_path / "runs"
    result = run("run", "--config=cartpole", f"--workdir={workdir}", *flags)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
