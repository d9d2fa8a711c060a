"""The straight-through estimators by name; each framework computes them with its own functions."""

from __future__ import annotations

from refdesign.errors import RefdesignError

ESTIMATORS = ("clipped", "identity", "polynomial")
"""What stands for the derivative of the sign at z: `"clipped"` is 1 where |z| <= 1 and 0 elsewhere (BinaryNet),
`"identity"` is 1 everywhere, `"polynomial"` is max(0, 2 - |2z|) (the released ReCU code, from Bi-Real Net)."""


def check_estimator(estimator: str) -> None:
    """Raise `RefdesignError` unless the estimator is one of `ESTIMATORS`.

    >>> check_estimator("cubic")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: estimator: found 'cubic', expected one of clipped, identity, polynomial
    """
    if estimator not in ESTIMATORS:
        raise RefdesignError(f"estimator: found {estimator!r}, expected one of {', '.join(ESTIMATORS)}")
