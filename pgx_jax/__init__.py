"""Find which tasks should be learned together, by gradient estimation."""
