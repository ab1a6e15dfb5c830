"""Scripts that tests import define flags, of names that others have too."""

import contextlib

from absl import flags


@contextlib.contextmanager
def own_flags(names):
    """Flags of these names that are defined inside are gone afterwards.

    Those that others have defined are out of the way inside, and back afterwards.
    """
    others = {x: flags.FLAGS[x] for x in names if x in flags.FLAGS}
    for x in others:
        delattr(flags.FLAGS, x)
    yield
    for x in names:
        delattr(flags.FLAGS, x)
    for x, flag in others.items():
        flags.FLAGS[x] = flag
