"""The errors that the project raises on purpose.

Everything that can be wrong with what a user hands in (a file, an array, an option) is a `RefdesignError`:
one line that names the file, the layer and the field, what was found and what was expected. The command line
prints that line and ends with exit status 2; anything else that escapes is a bug in the project.
"""

from __future__ import annotations

__all__ = ["MissingExtra", "RefdesignError", "missing_extra"]


class RefdesignError(ValueError):
    """What a user handed in cannot be used; the message is one line that says why.

    >>> raise RefdesignError("net.safetensors: layer 'conv2': weight: found dtype float32, expected bits")
    Traceback (most recent call last):
        ...
    refdesign.errors.RefdesignError: net.safetensors: layer 'conv2': weight: found dtype float32, expected bits
    """


class MissingExtra(RefdesignError, ImportError):
    """An optional package is needed that is not installed.

    It is an `ImportError` too, so that ``except ImportError`` around an optional feature works as usual.

    >>> issubclass(MissingExtra, ImportError), issubclass(MissingExtra, RefdesignError)
    (True, True)
    """


def missing_extra(extra: str, package: str) -> MissingExtra:
    """The error for an optional package that is not installed, naming the extra that brings it.

    Args:
        extra: the extra of this project that declares the package, for example ``"plot"``.
        package: the package's name as it is imported, for example ``"matplotlib"``.

    Returns:
        The error, not raised, so that the caller writes ``raise missing_extra(...) from error`` and keeps the cause.

    >>> error = missing_extra("plot", "matplotlib")
    >>> error.name
    'matplotlib'
    >>> print(error)
    matplotlib is not installed; it comes with: pip install "refdesign[plot]"
    """
    message = f'{package} is not installed; it comes with: pip install "refdesign[{extra}]"'
    error = MissingExtra(message)
    error.name = package
    return error
