"""The errors that the project raises on purpose.

Everything that can be wrong with what a user hands in (a file, an array, an option) is a `RefdesignError`:
one line that names the file, the layer and the field, what was found and what was expected. The command line
prints that line and ends with exit status 2; anything else that escapes is a bug in the project.
"""

from __future__ import annotations

__all__ = ["MissingExtra", "RefdesignError", "missing_extra", "in_print"]

LONGEST_LINE = 4000
"""Characters of a line about a file from elsewhere, whose names can be megabytes."""


def in_print(text: str) -> str:
    """Text from elsewhere as it is safe to print: in one line of bounded length, without control characters.

    >>> in_print("conv1\\x1b[31m\\nred"), len(in_print("x" * 5000))
    ('conv1\\\\x1b[31m\\\\nred', 4000)
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST_LINE // 2
    return text if len(text) <= LONGEST_LINE else f"{text[: half - 5]} ... {text[-half:]}"


class RefdesignError(ValueError):
    """What a user handed in cannot be used; the message is one line that says why (`in_print`).

    >>> raise RefdesignError("net.safetensors: layer 'conv2': weight: found dtype float32, expected bits")
    Traceback (most recent call last):
        ...
    refdesign.errors.RefdesignError: net.safetensors: layer 'conv2': weight: found dtype float32, expected bits
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(in_print(" ".join(message.split())))


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
