"""Videos of policies: episodes played inside jit, drawn, captioned and encoded.

suite, policies = restore_policies("runs/cartpole_planted")
tiles = play_tasks(suite, policies, [0, 5], jax.random.key(0))
fps = natural_fps(tiles)
write_video("a1.mp4", draw_frames(tiles, fps), fps)
"""

from pgx_jax.rendering.episodes import (
    Episode,
    Tile,
    find_tasks,
    play_tasks,
)
from pgx_jax.rendering.frames import count_frames, draw_frames, natural_fps
from pgx_jax.rendering.policies import (
    Policies,
    restore_policies,
    untrained_policies,
)
from pgx_jax.rendering.video import check_output, write_video

__all__ = [
    "Episode",
    "Policies",
    "Tile",
    "check_output",
    "count_frames",
    "draw_frames",
    "find_tasks",
    "natural_fps",
    "play_tasks",
    "restore_policies",
    "untrained_policies",
    "write_video",
]
