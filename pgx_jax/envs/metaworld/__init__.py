"""The ten tasks of Meta-World MT10, in MJX."""
