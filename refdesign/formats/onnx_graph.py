"""A small builder of ONNX graphs, and the package `onnx` itself, imported only here and only when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import missing_extra

OPSET = 18
"""The version of ONNX's standard operators that exports use."""

IR_VERSION = 10
"""The version of ONNX's file format that exports use; it has model-local functions."""


def import_onnx() -> Any:
    """The package `onnx`.

    Raises:
        MissingExtra: it is not installed.

    >>> import_onnx().__name__
    'onnx'
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError as error:
        raise missing_extra("onnx", "onnx") from error
    return onnx


class GraphBuilder:
    """Nodes and initialisers that grow one after the other, each with a readable name of its own.

    Attributes:
        nodes: `NodeProto`s in order of execution.
        initializers: `TensorProto`s.

    >>> builder = GraphBuilder()
    >>> builder.op("Add", "x", builder.constant(np.float32([1.0]), "one"), name="sum")
    'sum'
    """

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._taken: set[str] = set()
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def name(self, wished: str) -> str:
        """A name that nothing has yet: the one wished for, or that with a number behind it."""
        name, number = wished, 1
        while name in self._taken:
            name, number = f"{wished}_{number}", number + 1
        self._taken.add(name)
        return name

    def constant(self, value: NDArray[Any] | np.generic | Sequence[int], name: str) -> str:
        """An initialiser; sequences of integers are int64. Returns its name."""
        name = self.name(name)
        typed = isinstance(value, (np.ndarray, np.generic))
        array = np.asarray(value, order="C") if typed else np.asarray(value, dtype=np.int64)
        self.initializers.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, name: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output. Returns the output's name, which is the node's name too."""
        name = self.name(name)
        node = self._onnx.helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def cast(self, value: str, dtype: type[Any], name: str) -> str:
        """A node that casts to a NumPy type. Returns the output's name."""
        return self.op("Cast", value, name=name, to=element_type(dtype))


def element_type(dtype: type[Any]) -> int:
    """ONNX's number for a NumPy type.

    >>> element_type(np.float32)
    1
    """
    number: int = import_onnx().helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return number
