"""MuJoCo is a C extension without types: all in it is Any to the type checker."""

from typing import Any

def __getattr__(name: str) -> Any: ...
