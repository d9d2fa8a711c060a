"""What a user hands in, before it is looked at: whole numbers that are whole numbers, arrays that are arrays."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.errors import RefdesignError


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Whether a value is an integer, of Python or NumPy, of at least `least`; True and False are none.

    >>> is_whole(np.int64(3), 1), is_whole(0, 1), is_whole(True, 1), is_whole(1.0, 1)
    (True, False, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def shown(value: object) -> str:
    """A value as an error shows it: in one line, and not much of it.

    >>> shown(np.zeros((2, 2))), shown("x" * 100)[-4:]
    ('array([[0., 0.], [0., 0.]])', 'x...')
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def meant(found: str, names: Collection[str]) -> str:
    """What a misspelt name may stand for, to be put behind it; nothing where it is like none.

    >>> meant("conv1.bit", ["conv1.bits", "logits"])
    " (did you mean 'conv1.bits'?)"
    >>> meant("probabilities", ["conv1.bits", "logits"])
    ''
    """
    close = get_close_matches(found, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def as_array(where: str, value: ArrayLike) -> NDArray[Any]:
    """A value as an array, as NumPy reads it.

    Raises:
        RefdesignError: it is none, such as lists of unequal lengths.

    >>> as_array("pack", [[1, -1], [1]])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: pack: found a list that is no array, expected numbers in rows of equal length
    """
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        raise RefdesignError(
            f"{where}: found a {type(value).__name__} that is no array, expected numbers in rows of equal length"
        ) from None


def check_array(where: str, value: object) -> None:
    """Refuse what is no NumPy array, such as a list.

    >>> check_array("max_pool2d", [[1, 2]])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: max_pool2d: found a list, expected a NumPy array
    """
    if not isinstance(value, np.ndarray):
        raise RefdesignError(f"{where}: found a {type(value).__name__}, expected a NumPy array")
