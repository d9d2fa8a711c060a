"""A reader of the pickles that PyTorch writes, which runs nothing.

Python's unpickler imports and calls what a file names. This one is a machine of its own for the few operations that
a dictionary of tensors needs: a name stays a name (`Name`), a call of a known name makes a `Tensor` or a dictionary,
and a call of any other stays an `Unknown`, a note of what was there. So nothing in a file can have an effect, and a
checkpoint whose weights lie beside objects of the author's own classes can still be read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refdesign.errors import RefdesignError

LARGEST_PICKLE = 1 << 22
"""Bytes of the operations; those of a network of a thousand layers take a few hundred thousand."""

STORAGES = {
    "HalfStorage": "float16", "BFloat16Storage": "bfloat16", "FloatStorage": "float32", "DoubleStorage": "float64",
    "CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
"""PyTorch's types of storage that are read."""


@dataclass(frozen=True, eq=False)
class Name:
    """What a file would have imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, eq=False)
class Unknown:
    """What a file would have made by calling this name."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A run of elements that lies elsewhere in the file.

    Attributes:
        key: which.
        dtype: the elements' type.
        count: how many, as the file says.
    """

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage; nothing in it is checked yet."""

    storage: Storage
    offset: Any
    shape: Any
    stride: Any


class _Mark:
    """Where a group on the stack begins."""


_MARK = _Mark()


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a pickle holds.

    Attributes:
        value: plain values, lists, tuples, dictionaries with keys of text and numbers, `Tensor`, `Storage`, `Name`,
            `Unknown`.
        end: where the pickle ends.
        storages: every storage that was named in it, by its key.
    """

    value: Any
    end: int
    storages: dict[str, Storage]


def load(data: bytes, at: int = 0) -> Loaded:
    """The object in a pickle, built without running anything in it.

    Args:
        data: the operations, at most `LARGEST_PICKLE` bytes of them.
        at: where they begin.

    Raises:
        RefdesignError: no pickle, an operation that no such file needs, or a damaged one.

    >>> import pickle
    >>> load(pickle.dumps({"a": [1, 2.5]}, protocol=2)).value
    {'a': [1, 2.5]}
    >>> load(pickle.dumps(print, protocol=2)).value
    Name(module='__builtin__', name='print')
    """
    machine = _Machine(data, at)
    try:
        return Loaded(machine.run(), machine.at, machine.storages)
    except RefdesignError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise RefdesignError("found a damaged pickle") from error


class _Machine:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.limit = min(len(data), at + LARGEST_PICKLE)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.stack.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise RefdesignError(
                    f"found the pickle operation 0x{code:02x}, which no dictionary of tensors needs: damaged or "
                    "another kind of file"
                )
            operation(self)

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > self.limit:
            raise RefdesignError(
                f"found a pickle that is cut short, or of more than {LARGEST_PICKLE} bytes, expected a state dict"
            )
        return self.data[start : self.at]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, min(self.limit, self.at + 1000))
        if end < 0:
            raise RefdesignError("found a damaged pickle")
        return self.take(end + 1 - self.at)[:-1].decode()

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def group(self) -> list[Any]:
        """What was pushed since the last mark, which goes away."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                group = self.stack[index + 1 :]
                del self.stack[index:]
                return group
        raise RefdesignError("found a damaged pickle")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                # Other keys are no names of tensors; and a tuple of tuples of ... would be hashed to any depth.
                if isinstance(key, (str, int, float)):
                    target[key] = value

    def extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_called(function, arguments if isinstance(arguments, tuple) else ()))

    def name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefdesignError("found a damaged pickle")
        self.stack.append(Name(module[:200], name[:200]))

    def persistent(self) -> None:
        storage = _storage(self.stack.pop())
        if isinstance(storage, Storage):
            self.storages[storage.key] = storage
        self.stack.append(storage)

    def state(self) -> None:
        self.stack.pop()  # an ordered dictionary's attributes, or an object's of an unknown class

    def items(self) -> None:
        self.set_items(self.group())

    def item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def append(self) -> None:
        self.extend([self.stack.pop()])

    def appends(self) -> None:
        self.extend(self.group())

    def new(self, keywords: bool) -> None:
        if keywords:
            self.stack.pop()
        self.call()

    def tuple_of(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        if len(values) != count:
            raise RefdesignError("found a damaged pickle")
        self.stack[-count:] = [values]


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call of a known name gives; `Unknown` of any other."""
    name = str(function) if isinstance(function, Name) else "object"
    if name in ("collections.OrderedDict", "builtins.dict", "__builtin__.dict"):
        return {}
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor") and len(arguments) >= 4:
        storage, offset, shape, stride = arguments[:4]
        return Tensor(storage, offset, shape, stride) if isinstance(storage, Storage) else Unknown(name)
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state") and arguments:
        return arguments[0]
    if name == "torch.Size" and arguments:
        return arguments[0]
    return Unknown(name)


def _storage(identifier: Any) -> Any:
    if isinstance(identifier, tuple) and len(identifier) > 1 and identifier[0] == "module":
        return identifier[1]  # before PyTorch 1.6, a class with its source
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
        return Unknown("storage")
    _, kind, key, _, count = identifier[:5]
    if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str) or type(count) is not int:
        return Unknown(str(kind) if isinstance(kind, Name) else "storage")
    return Storage(key, STORAGES[kind.name], count)


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        machine.stack.append(make(machine))

    return push


def _text(form: str) -> Callable[[_Machine], str]:
    return lambda machine: machine.take(machine.number(form)).decode("utf-8", "surrogatepass")


def _raw(form: str) -> Callable[[_Machine], bytes]:
    return lambda machine: machine.take(machine.number(form))


def _remember(form: str) -> Callable[[_Machine], None]:
    def remember(machine: _Machine) -> None:
        machine.memo[machine.number(form)] = machine.stack[-1]

    return remember


def _memoize(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


_OPERATIONS: dict[int, Callable[[_Machine], Any]] = {
    ord("("): _push(lambda machine: _MARK),
    ord("N"): _push(lambda machine: None),
    0x88: _push(lambda machine: True),
    0x89: _push(lambda machine: False),
    ord("J"): _push(lambda machine: machine.number("<i")),
    ord("K"): _push(lambda machine: machine.number("<B")),
    ord("M"): _push(lambda machine: machine.number("<H")),
    0x8A: _push(lambda machine: int.from_bytes(machine.take(machine.number("<B")), "little", signed=True)),
    ord("G"): _push(lambda machine: machine.number(">d")),
    ord("X"): _push(_text("<I")),
    0x8C: _push(_text("<B")),
    0x8D: _push(_text("<Q")),
    ord("U"): _push(_raw("<B")),
    ord("T"): _push(_raw("<I")),
    ord("C"): _push(_raw("<B")),
    ord("B"): _push(_raw("<I")),
    0x8E: _push(_raw("<Q")),
    ord("}"): _push(lambda machine: {}),
    ord("]"): _push(lambda machine: []),
    ord(")"): _push(lambda machine: ()),
    0x8F: _push(lambda machine: []),  # an empty set
    0x91: _push(lambda machine: tuple(machine.group())),  # a frozen set
    ord("t"): _push(lambda machine: tuple(machine.group())),
    ord("l"): _push(lambda machine: machine.group()),
    0x85: lambda machine: machine.tuple_of(1),
    0x86: lambda machine: machine.tuple_of(2),
    0x87: lambda machine: machine.tuple_of(3),
    ord("q"): _remember("<B"),
    ord("r"): _remember("<I"),
    0x94: _memoize,
    ord("h"): _push(lambda machine: machine.memo[machine.number("<B")]),
    ord("j"): _push(lambda machine: machine.memo[machine.number("<I")]),
    ord("c"): _push(lambda machine: Name(machine.line(), machine.line())),
    0x93: _Machine.name,
    ord("R"): _Machine.call,
    0x81: lambda machine: machine.new(keywords=False),
    0x92: lambda machine: machine.new(keywords=True),
    ord("b"): _Machine.state,
    ord("Q"): _Machine.persistent,
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    0x90: _Machine.appends,  # items of a set
    ord("s"): _Machine.item,
    ord("u"): _Machine.items,
    ord("0"): lambda machine: machine.stack.pop(),
    ord("2"): lambda machine: machine.stack.append(machine.stack[-1]),
    0x80: lambda machine: machine.take(1),  # the protocol's number
    0x95: lambda machine: machine.take(8),  # a frame's length, which only readers of streams need
}
"""The operations of pickle protocols 2 to 5 that containers, numbers, text, names and calls need."""
