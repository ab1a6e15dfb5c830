"""Two runs do not write to one workdir, and no lock outlives its process."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_run import run

from pgx_jax.runs.locks import LOCK_FILE, lock

HOLD = (
    "import sys, time\n"
    "from pgx_jax.runs.locks import lock\n"
    "with lock(sys.argv[1]):\n"
    "    print('locked', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    """A process that has locked the workdir."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_until_the_first_is_dead(holder, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=f"is in use by process {holder.pid} on") as error:
        run(tmp_path)
    assert "give another workdir" in str(error.value)
    assert sorted(tmp_path.iterdir()) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock(tmp_path):
        text = (tmp_path / LOCK_FILE).read_text()
        assert text.startswith(f"process {os.getpid()} on")


def test_one_thread_may_lock_twice_and_another_may_not(tmp_path):
    def take():
        with lock(tmp_path):
            return True

    with ThreadPoolExecutor(1) as other:
        with lock(tmp_path):
            assert take()
            with pytest.raises(OSError, match="in use"):
                other.submit(take).result()
        assert other.submit(take).result()


def test_a_place_that_cannot_be_locked_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="workdir .* cannot be written to"):
        lock(tmp_path / "file" / "run").__enter__()
