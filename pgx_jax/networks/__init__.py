"""Flax actor-critics and their action distributions."""
