"""Which types hold which: tables written by hand from their formats."""

import jax.numpy as jnp
import pytest

from pgx_jax.envs.dtypes import common_type, holds

HELD = {
    "bool": ["bool"],
    "int8": ["bool", "int8"],
    "uint8": ["bool", "uint8"],
    "int32": ["bool", "int8", "uint8", "int32"],
    "uint32": ["bool", "uint8", "uint32"],
    "float16": ["bool", "int8", "uint8", "float16"],
    "bfloat16": ["bool", "int8", "uint8", "bfloat16"],
    "float32": [
        *["bool", "int8", "uint8", "int32", "uint32"],
        *["float16", "bfloat16", "float32"],
    ],
}


@pytest.mark.parametrize("dtype", HELD)
def test_a_type_holds_those_of_fewer_values(dtype):
    held = [x for x in HELD if holds(jnp.dtype(dtype), jnp.dtype(x))]
    assert held == HELD[dtype]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("int32", "float32", "float32"),
        ("float32", "bool", "float32"),
        ("float16", "bfloat16", "float32"),
        ("int8", "uint8", "int16"),
        ("int32", "bfloat16", None),
        ("int32", "uint32", None),
        ("int32", "int32", "int32"),
    ],
)
def test_the_common_type_holds_both_or_is_none(one, other, common):
    for pair in ((one, other), (other, one)):
        found = common_type(*map(jnp.dtype, pair))
        assert found == (None if common is None else jnp.dtype(common))
