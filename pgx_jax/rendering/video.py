"""Frames as files that every player and browser shows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pgx_jax.extras import needs_extra
from pgx_jax.runs.files import PARTIAL
from pgx_jax.runs.interruption import cleaning_up

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".mp4", ".gif")
# Of a quality without visible artifacts, shown while it is still loading.
_FFMPEG_OPTIONS = ["-preset", "slow", "-crf", "18", "-movflags", "+faststart"]


def check_output(path: str | os.PathLike[str]) -> None:
    """Checks that a video can be written, before any long work.

    Raises:
      ValueError: its name ends in neither .mp4 nor .gif.
      ImportError: an MP4 is asked for and `imageio` or its FFmpeg is missing.
      OSError: its directory does not exist.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"output must end in {' or '.join(ENDINGS)}, got {os.fspath(path)!r}"
        )
    if not Path(path).absolute().parent.is_dir():
        raise OSError(f"directory of output {os.fspath(path)!r} does not exist")
    if ending == ".mp4":
        with needs_extra("video", ", or write a .gif"):
            import imageio  # noqa: F401
            import imageio_ffmpeg  # noqa: F401


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> None:
    """Writes frames to an MP4 (H.264) or a GIF, whichever the name ends in.

    Args:
      path: is replaced if it exists, once all frames are written.
      frames: at least one; uint8 [height, width, 3] of one even size.
      fps: frames a second.

    Raises:
      ValueError, ImportError, OSError: as `check_output`.
    """
    check_output(path)
    path = Path(path)
    is_gif = path.suffix.lower() == ".gif"
    write, ending = (_write_gif, ".gif") if is_gif else (_write_mp4, ".mp4")
    partial = path.with_name(f"{path.name}{PARTIAL}{ending}")
    with cleaning_up(lambda: partial.unlink(missing_ok=True)):
        try:
            write(partial, frames, fps)
            partial.replace(path)
        except OSError as error:  # of FFmpeg with its whole command
            reason = error.strerror or str(error).partition("\n")[0]
            raise OSError(f"{path} cannot be written: {reason}; free space") from error


def _write_mp4(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> None:
    import imageio.v2 as imageio
    import imageio_ffmpeg
    from imageio.core.format import Format

    # Else imageio-ffmpeg forks by itself, which can hang beside the threads of JAX.
    os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
    with imageio.get_writer(
        os.fspath(path),
        format="FFMPEG",
        mode="I",
        fps=fps,
        codec="libx264",
        pixelformat="yuv420p",
        quality=None,  # given by the options
        macro_block_size=2,  # sizes stay what they are
        output_params=_FFMPEG_OPTIONS,
        ffmpeg_log_level="fatal",  # what fails is reported once, by `write_video`
    ) as writer:
        assert isinstance(writer, Format.Writer)
        count = 0
        for frame in frames:
            writer.append_data(frame)
            count += 1
    # FFmpeg writes most of a short video when it is closed, and then fails silently.
    try:
        written, _ = imageio_ffmpeg.count_frames_and_secs(os.fspath(path))
    except RuntimeError:
        written = 0
    if written != count:
        raise OSError(f"FFmpeg wrote {written} of {count} frames")


def _write_gif(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> None:
    """By Pillow, a frame at a time: together they may not fit into memory."""
    from PIL import Image

    def make_images() -> Iterator[Image]:
        shown = 0
        for index, frame in enumerate(frames):
            image = Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
            # GIFs count in hundredths of a second; rounding must not add up.
            until = round(100 * (index + 1) / fps)
            image.info["duration"] = 10 * (until - shown)
            shown = until
            yield image

    images = make_images()
    next(images).save(path, save_all=True, append_images=images, loop=0)
