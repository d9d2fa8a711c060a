"""Code under test that ends its process: the process is ours, and so is its status."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def survived() -> Iterator[None]:
    """Let `os._exit` raise `SystemExit`, as `sys.exit` does; in processes that are forked meanwhile it ends them.

    Native code can end the process all the same.

    >>> with survived():
    ...     try:
    ...         os._exit(0)
    ...     except SystemExit as ended:
    ...         print(ended)
    os._exit(0)
    """
    ours, end = os.getpid(), os._exit

    def raise_instead(status: int) -> NoReturn:
        if os.getpid() != ours:
            end(status)
        raise SystemExit(f"os._exit({status})")

    setattr(os, "_exit", raise_instead)  # noqa: B010  (a plain assignment is no type)
    try:
        yield
    finally:
        setattr(os, "_exit", end)  # noqa: B010
