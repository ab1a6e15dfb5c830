"""Interrupted processes end soon, in one line, with the exit code of the signal."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import run

from pgx_jax.runs import interruption
from pgx_jax.runs.workdir import Workdir

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
# What a process does after it has printed "ready"; it waits for ten minutes at most.
PROGRAM = """
import pathlib, sys, time
from pgx_jax.runs import interruption
interruption.PATIENCE = {patience}
file = pathlib.Path(sys.argv[1])
with interruption.handle_signals("go on with more"):
    with interruption.cleaning_up(lambda: file.unlink(missing_ok=True)):
        file.touch()
        {body}
"""
WORKING = """with interruption.awaited():
            print("ready", flush=True)
            for _ in range(6000):
                time.sleep(0.1)
                interruption.stop_if_asked()"""
STUCK = """with interruption.awaited():
            print("ready", flush=True)
            time.sleep(600)"""
ELSEWHERE = """print("ready", flush=True)
        time.sleep(600)"""


@pytest.fixture(autouse=True)
def heeded():
    """Signals are heeded, also where the tests run in a shell's background.

    Whoever starts a process hands on what he ignores.
    """
    before = [signal.signal(x, signal.SIG_DFL) for x in interruption.SIGNALS]
    yield
    for number, handler in zip(interruption.SIGNALS, before, strict=True):
        signal.signal(number, handler)


@contextlib.contextmanager
def started(path, body, patience=60):
    """A process that is ready for signals."""
    program = PROGRAM.format(body=body, patience=patience)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("body", "number", "code", "when"),
    [
        (WORKING, signal.SIGTERM, 143, "within 60 s"),
        (ELSEWHERE, signal.SIGINT, 130, "now"),
    ],
)
def test_a_signal_ends_in_one_line_and_its_exit_code(
    tmp_path, body, number, code, when
):
    path = tmp_path / "partial"
    with started(path, body) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert errors == f"{number.name}: stopping {when}; go on with more\n"
    assert not path.exists()


def test_what_does_not_end_is_ended_by_a_second_signal_or_by_time(tmp_path):
    path = tmp_path / "partial"
    with started(path, STUCK) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM: stopping within 60 s")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 143
    with started(path, STUCK, patience=0) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130
    assert not path.exists()


CHECKPOINTS = "the same command goes on from the last checkpoint"
STAGES = "the same command goes on from the stages that are finished"


def catches(process, number):
    """Whether a process has a handler for a signal; Linux says so."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = [x for x in status.splitlines() if x.startswith("SigCgt")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(
    ("script", "advice", "seconds", "number"),
    [
        ("run", CHECKPOINTS, 0, signal.SIGINT),
        ("run", CHECKPOINTS, 0.2, signal.SIGTERM),
        ("truth_table", STAGES, 0.5, signal.SIGINT),
        *(
            pytest.param(*case, marks=pytest.mark.reliability)
            for case in (
                ("run", CHECKPOINTS, 0.5, signal.SIGINT),
                ("truth_table", STAGES, 0, signal.SIGINT),
                ("truth_table", STAGES, 0.2, signal.SIGTERM),
            )
        ),
    ],
)
def test_a_signal_during_the_imports_ends_in_one_line(script, advice, seconds, number):
    command = [sys.executable, str(EXPERIMENTS / f"{script}.py")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            # Python itself handles SIGINT, and leaves SIGTERM alone.
            while process.poll() is None and not catches(process, signal.SIGTERM):
                time.sleep(0.001)
            time.sleep(seconds)
            process.send_signal(number)
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert errors == f"{number.name}: stopping now; {advice}\n"
    assert process.returncode == 128 + number


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(x) for x in interruption.SIGNALS]
    with interruption.handle_signals(""):
        inside = [signal.getsignal(x) for x in interruption.SIGNALS]
        with interruption.handle_signals(""):
            assert [signal.getsignal(x) for x in interruption.SIGNALS] == inside
        assert not set(inside) & set(before)
    assert [signal.getsignal(x) for x in interruption.SIGNALS] == before
    interruption.stop_if_asked()  # of no signal, and of nobody who waits for one


def test_training_stops_at_the_next_checkpoint(tmp_path, monkeypatch):
    class Asked:
        code, awaiting, cleanups = 143, [], ()

    monkeypatch.setattr(interruption, "_watch", Asked())
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path)
    assert stopped.value.code == 143
    directory = Workdir.open(tmp_path)
    assert not directory.is_finished("meta_training")
    assert [x.name for x in (tmp_path / "checkpoints/meta_training").iterdir()] == ["2"]


SMALL = {
    "checkpoint_every": 2,
    "network.hidden_sizes": 8,
    "ppo.num_envs": 4,
    "ppo.unroll_length": 16,
    "ppo.num_minibatches": 2,
    "meta_training.num_updates": 6,
    "estimation.dim": 16,
    "estimation.num_transitions": 256,
    "grouping.num_candidates": 2,
    "grouping.num_random_draws": 1,
    "group_training.num_updates": 4,
    "evaluation.num_episodes": 4,
}


@contextlib.contextmanager
def running(workdir):
    """The command of a small run."""
    command = [sys.executable, "-u", "-c", "from pgx_jax.cli import main; main()"]
    command += ["run", "--config=cartpole_planted", f"--workdir={workdir}"]
    command += [f"--config.{field}={value}" for field, value in SMALL.items()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.reliability
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_interrupted_at_every_stage_goes_on(tmp_path, number):
    interruptions = 0
    # What it has printed when the signal comes.
    for shown in ("", "meta training", "meta training took", "estimation", "race"):
        with running(tmp_path / "interrupted") as process:
            for line in process.stdout:
                if line.startswith(shown):
                    break
            process.send_signal(number)
            _, errors = process.communicate(timeout=500)
        if process.returncode == 0:  # the stage had ended before the last signal
            continue
        interruptions += 1
        assert process.returncode == 128 + number
        (line,) = [x for x in errors.splitlines() if "stopping" in x]
        assert line.endswith("the same command goes on from the last checkpoint")
        assert "Traceback" not in errors
    assert interruptions >= 3
    sources = []
    for name in ("interrupted", "whole"):
        with running(tmp_path / name) as process:
            _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
        sources.append(Workdir.open(tmp_path / name).result("evaluation")["source"])
    assert (sources[0] == sources[1]).all()
