"""The state of a training run in a file, from which it goes on to the same bits."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats.atomic import write_bytes

try:
    import torch
except ImportError as error:
    raise missing_extra("train", "torch") from error


class Stateful(Protocol):
    """A model, an optimiser or a schedule: what can give and take its state."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data and tensors."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take a state back."""


Settings = Mapping[str, int | float | str]
Figures = Sequence[tuple[float, ...]]


def write_checkpoint(path: Path, parts: Mapping[str, Stateful], settings: Settings, figures: Figures) -> None:
    """Write the state of a run after an epoch, replacing the file at once or not at all.

    Args:
        path: the file; its folder must exist.
        parts: what has a state, by name. PyTorch's global random state is kept beside them.
        settings: what the run is; `read_checkpoint` accepts no other.
        figures: each epoch's numbers so far.

    Raises:
        RefdesignError: the file cannot be written; an earlier one is still there.
    """
    state = {
        "settings": dict(settings),
        "figures": [list(row) for row in figures],
        "random": torch.get_rng_state(),
        "parts": {name: part.state_dict() for name, part in parts.items()},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path, parts: Mapping[str, Stateful], settings: Settings) -> list[tuple[float, ...]]:
    """Put a run back to where `write_checkpoint` left it: its parts and the global random state.

    Args:
        path: the file. It is read without unpickling objects.
        parts: as given to `write_checkpoint`; they take their states back.
        settings: of the run that goes on.

    Returns:
        The figures of the epochs that are done.

    Raises:
        RefdesignError: the file cannot be read, or is of a run with other settings or another model.
    """
    try:
        # On the CPU first: each part brings its state to its own device, and another machine may have no such device.
        state = torch.load(path, weights_only=True, map_location="cpu")
        found = state["settings"]
        figures = [tuple(float(figure) for figure in row) for row in state["figures"]]
    except Exception as error:  # Damaged archives and foreign files raise almost anything.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RefdesignError(f"{path}: no checkpoint that can be read ({reason}); remove it to start again") from error
    for name in sorted({*settings, *found}):
        if found.get(name) != settings.get(name):
            raise RefdesignError(
                f"{path}: {name}: found a checkpoint of {found.get(name)!r}, expected {settings.get(name)!r}; "
                "remove it to start again"
            )
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        torch.set_rng_state(state["random"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RefdesignError(f"{path}: a checkpoint of another model ({str(error).splitlines()[0]})") from error
    return figures
