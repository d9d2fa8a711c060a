"""The console script `refdesign`.

It lies outside the package because importing that takes a while, in which Ctrl-C must not print a traceback: it
imports nothing of the project until it has seen to that.
"""

from __future__ import annotations

import os
import signal

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; an interrupt while it is imported ends the process at once, without a word."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # otherwise interrupts are ignored, as behind nohup
        signal.signal(signal.SIGINT, _leave)
    from refdesign.cli import main as command_line

    signal.signal(signal.SIGINT, handler)
    command_line()


def _leave(number: int, frame: object) -> None:
    # No KeyboardInterrupt: amid an import it can arise where the import system prints and drops it.
    os._exit(_INTERRUPTED)
