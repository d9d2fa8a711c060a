"""What the readers of wrong entries have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.verify.change import Change

Bools = NDArray[np.bool_]
Array = NDArray[Any]
Way = tuple[Change, ...]
"""One way to read what is wrong in one channel, or in one phase of it."""

MOST = 8
"""Entries that are named, and ways to read one of them."""
