"""From estimates to affinities, and from affinities to groups."""
