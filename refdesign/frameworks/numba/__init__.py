"""The packed path compiled for the CPU by Numba: vector popcounts, spread over the cores.

Importing this package needs Numba, which the extra `numba` brings.

>>> import numpy as np
>>> from refdesign.api import pretrained
>>> engine = compile(pretrained("digits"))
>>> engine(np.zeros((1, 8, 8, 1), np.uint8), outputs="all")["logits"].dtype
dtype('float32')
"""

from refdesign.errors import missing_extra

try:
    import numba as _numba  # noqa: F401
except ImportError as error:
    raise missing_extra("numba", "numba") from error

from refdesign.frameworks.numba.engine import NumbaPath, compile

__all__ = ["NumbaPath", "compile"]
