"""Statistics of scores, returns and groupings."""
