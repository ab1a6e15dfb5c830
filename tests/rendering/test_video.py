"""Files hold every frame; what cannot be written is refused before."""

import resource
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from pgx_jax import rendering

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_files_hold_all_frames(cartpole_tile, tmp_path, ending):
    tile = cartpole_tile(np.linspace([-1, 0, -0.2, 0], [1, 0, 0.2, 0], 12))
    frames = list(rendering.draw_frames([tile], 50.0))[:12]
    path = tmp_path / f"video{ending}"
    rendering.write_video(path, iter(frames), 25.0)
    height, width = frames[0].shape[:2]
    if ending == ".gif":
        image = Image.open(path)
        assert (image.n_frames, image.size) == (12, (width, height))
        assert image.info["duration"] == 40  # ms
        image.seek(11)
        last = np.asarray(image.convert("RGB"))
    else:
        assert imageio.immeta(path, plugin="FFMPEG")["fps"] == 25.0
        read = imageio.imread(path, plugin="FFMPEG")
        assert read.shape[1:] == (height, width, 3)
        assert len(read) == 12
        last = read[-1]
    assert np.abs(last.astype(int) - frames[-1]).mean() < 2.0


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_video_that_cannot_be_finished_leaves_the_one_before(tmp_path, ending):
    path = tmp_path / f"video{ending}"
    path.write_text("before")
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)

    def fail():
        yield from noise[:3]
        raise ValueError("no fourth frame")

    with pytest.raises(ValueError, match="^no fourth frame$"):
        rendering.write_video(path, fail(), 25.0)
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))  # as a full disk does
    try:
        with pytest.raises(OSError, match="cannot be written: .*; free space$"):
            rendering.write_video(path, iter(noise), 25.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert [x.name for x in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in .mp4 or .gif, got 'a.avi'"):
        rendering.check_output("a.avi")
    with pytest.raises(OSError, match="does not exist"):
        rendering.check_output(tmp_path / "none" / "a.gif")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"install pgx_jax\[video\]"):
        rendering.check_output(tmp_path / "a.mp4")
    rendering.check_output(tmp_path / "a.gif")


def test_command_line(tmp_path):
    path = tmp_path / "cartpole.gif"
    command = [sys.executable, str(ROOT / "experiments" / "render.py")]
    command += ["--suite=cartpole_v1", f"--output={path}", "--speed=4"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip().startswith(f"{path}: ")
    assert Image.open(path).n_frames > 2
    wrong = [*command[:2], "--suite=cartpole_v1", "--output=a.webm"]
    run = subprocess.run(wrong, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1
    assert run.stderr.strip() == "error: output must end in .mp4 or .gif, got 'a.webm'"
