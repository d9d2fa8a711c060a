"""The slow truth: scalar loops, `bitarray` and fractions, written without looking at the fast operators.

Everything here is meant to be obviously right, one window and one number at a time. It imports of this project
nothing but plain data: conventions, parameters, packed bits as words, and networks.
"""

from __future__ import annotations

from refdesign.naive.explain import explain
from refdesign.naive.explanation import Explanation
from refdesign.naive.forward import run

__all__ = ["Explanation", "explain", "run"]
