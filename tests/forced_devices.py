"""Programs in a process of their own, which has eight devices."""

import os
import subprocess
import sys
import textwrap

import jax


def run_on_eight(program: str, *arguments: str) -> str:
    """The last line that a program prints there."""
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={
            **os.environ,
            "XLA_FLAGS": flags.strip(),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()[-1]
