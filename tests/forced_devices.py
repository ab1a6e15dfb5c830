"""Programs in processes of their own, which have eight devices or are two hosts."""

import os
import socket
import subprocess
import sys
import textwrap

import jax


def run_on_eight(program: str, *arguments: str) -> str:
    """The last line that a program prints there."""
    return _last_line(_start(program, arguments, num_devices=8))


def run_on_two_hosts(program: str) -> list[str]:
    """The last line of each of two processes, which have one device each.

    Their number is `sys.argv[1]`, and `sys.argv[2]` where they meet.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    hosts = [_start(program, (str(i), address), num_devices=1) for i in range(2)]
    return [_last_line(x) for x in hosts]


def _start(program, arguments, *, num_devices: int) -> subprocess.Popen:
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={num_devices}"
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={
            **os.environ,
            "XLA_FLAGS": flags.strip(),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _last_line(process: subprocess.Popen) -> str:
    output, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return output.splitlines()[-1]
