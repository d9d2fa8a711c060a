"""HDF5 files with their groups, arrays and attributes changed: valid files with wrong contents."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from refdesign.verify.fuzz.mutations import mutate_json

_VALUES: tuple[Any, ...] = (
    0, -1, 2**62, 1.5, np.nan, "", "conv1", "\x00", b"\xff", [], [1, 2], ["conv1"], ["conv1", "conv1"],
    [b"norm1/gamma:0"], np.zeros((2, 2)), np.zeros(0), np.array([1 + 2j]), np.array([b"a"]), "{}", "[]", "[" * 2000,
)  # fmt: skip
_ARRAYS: tuple[Any, ...] = (
    np.float32(1), np.zeros((0, 3), np.float32), np.ones(4, np.float16), np.full((3, 3, 3, 3), np.nan, np.float32),
    np.ones((2, 3), np.int64), np.ones(5, bool), np.array([1j, 2]), np.array([b"text"]), np.full((3, 3, 2, 3), 1e300),
    np.ones((1,) * 12, np.float32), np.zeros((3, 3, 2, 3), np.uint64),
)  # fmt: skip


def mutate_hdf5(rng: random.Random, data: bytes) -> bytes:
    """A few objects of a file changed: arrays of other shapes and types, links, attributes, sizes without contents.

    Args:
        rng: decides.
        data: a valid file; needs h5py.
    """
    import io

    import h5py

    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            names: list[str] = []
            file.visit(names.append)
            name = rng.choice(sorted(names) or ["/"])
            try:
                _changed(rng, h5py, file, name)
            except (OSError, RuntimeError, ValueError, TypeError, KeyError):
                continue  # such as an attribute that is too large, or a name that is taken
    return stream.getvalue()


def _changed(rng: random.Random, h5py: Any, file: Any, name: str) -> None:
    change, entry = rng.randrange(9), file[name]
    attributes = sorted(entry.attrs) or ["name"]
    key = rng.choice((*attributes, "layer_names", "weight_names", "model_config"))
    if change == 0:
        del file[name]
    elif change == 1:
        file.move(name, f"{name}{rng.choice(('x', '/0', '0'))}")
    elif change == 2:
        entry.attrs[key] = rng.choice(_VALUES)
    elif change == 3 and attributes:
        del entry.attrs[rng.choice(attributes)]
    elif change == 4:
        _described(rng, file)
    else:
        del file[name]
        _put(rng, h5py, file, name)


def _described(rng: random.Random, file: Any) -> None:
    """Change the model's own description, where the file has it."""
    if "model_config" in file.attrs:
        file.attrs["model_config"] = mutate_json(rng, file.attrs["model_config"].encode()).decode()
    else:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": []})


def _put(rng: random.Random, h5py: Any, file: Any, name: str) -> None:
    """Something else in the place of a group or an array."""
    kind = rng.randrange(7)
    if kind == 0:
        file[name] = h5py.SoftLink(rng.choice(("/", f"/{name}", "/nothing")))
    elif kind == 1:
        file[name] = h5py.ExternalLink("/etc/hostname", "/")
    elif kind == 2:
        file[name] = file["/"]  # a loop
    elif kind == 3:
        shape = rng.choice(((2**20, 2**20), (2**40,), (2**14, 2**13)))
        file.create_dataset(name, shape, "f4", chunks=(1024,) * len(shape), compression="gzip", fillvalue=1)
    elif kind == 4:
        layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
        layout[:] = h5py.VirtualSource("/etc/hostname", "x", shape=(4,))
        file.create_virtual_dataset(name, layout)
    elif kind == 5:
        file.create_dataset(name, (4,), "f4", external=[("/etc/hostname", 0, 16)])
    else:
        file.create_dataset(name, data=rng.choice(_ARRAYS))
