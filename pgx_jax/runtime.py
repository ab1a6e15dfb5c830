"""How JAX is set up, for the scripts that own their process, and how it compiles."""

from __future__ import annotations

import contextlib
import ctypes.util
import functools
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

CPU_FLAG = "--xla_cpu_use_fusion_emitters=false"
# jaxlib ends the process when it meets a flag that it does not know.
FIRST_JAXLIB_WITHOUT_FLAG = (0, 11)
# Reductions in one order, and no choice of kernels by how fast each ran this time.
DETERMINISTIC_FLAGS = (
    "--xla_gpu_deterministic_ops=true",
    "--xla_gpu_autotune_level=0",
)


def configure(
    *,
    cache_directory: str | os.PathLike[str] | None = None,
    precision: str = "highest",
    deterministic: bool = False,
) -> None:
    """Sets JAX up; to be called before the first JAX computation of the process.

    * Adds `--xla_cpu_use_fusion_emitters=false` to `XLA_FLAGS` where jaxlib knows it
      (before 0.11), unless it is set already: without it XLA on the CPU makes MJX
      kinematics on a long chain of bodies thousands of times slower. It changes nothing
      on a GPU or TPU.
    * Keeps compiled programs on disk, so that a second run starts at once.
    * Sets the precision of float32 matrix products, which on recent GPUs is TF32 unless
      asked otherwise.

    Args:
      cache_directory: of compiled programs; `~/.cache/pgx_jax` if None, unless JAX has
        been given one by its own setting.
      precision: of `jax_default_matmul_precision`: "highest" is full float32,
        "tensorfloat32" is TF32.
      deterministic: lets XLA compile for a GPU so that every process gets the same
        numbers, bit for bit, on GPUs of one kind under the same versions. Without it
        XLA times several kernels and takes the fastest, which round differently.
        Flags that `XLA_FLAGS` has already stay as they are. A CPU needs none.
    """
    jaxlib = tuple(map(int, metadata.version("jaxlib").split(".")[:2]))
    wanted = [CPU_FLAG] if jaxlib < FIRST_JAXLIB_WITHOUT_FLAG else []
    wanted += DETERMINISTIC_FLAGS if deterministic else ()
    flags = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in wanted if flag.partition("=")[0] not in flags]
    if missing:
        os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()

    import jax

    jax.config.update("jax_default_matmul_precision", precision)
    # JAX makes its settings attributes when it is imported.
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if cache_directory is None and chosen is None:
        cache_directory = Path.home() / ".cache" / "pgx_jax"
    if cache_directory is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache_directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@contextlib.contextmanager
def allow_promotion() -> Iterator[None]:
    """Lets other packages broadcast and convert implicitly, as MJX and Optax do.

    Whoever sets `jax_numpy_rank_promotion` or `jax_numpy_dtype_promotion` demands from
    this package that it writes both out, and can use it still.
    """
    import jax

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def choose_opengl() -> None:
    """Lets MuJoCo render where there is no display; to be called before its import.

    Sets `MUJOCO_GL` to "egl" on Linux without a display, if EGL is installed and the
    variable is not set already.
    """
    has_display = {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if "MUJOCO_GL" in os.environ or has_display or sys.platform != "linux":
        return
    if ctypes.util.find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"


@functools.cache
def compiler_options() -> dict[str, bool]:
    """Options for `jax.jit` under which the estimate compiles fast on a GPU.

    Matrix products go to cuBLAS: the search through XLA's own Triton kernels took 50 s
    of compilation on an H100 in place of 4 s, for programs as fast. `estimate_subsets`
    asks for them by itself; inside a `jax.jit` of yours they are to be given to that,
    `jax.jit(f, compiler_options=compiler_options())`, since JAX takes them from the
    outermost one only.

    Returns:
      Empty where the backend is no GPU or does not know the option.
    """
    import jax

    options = {"xla_gpu_enable_triton_gemm": False}
    if jax.default_backend() != "gpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0.0)
    except jax.errors.JaxRuntimeError:
        return {}
    return options
