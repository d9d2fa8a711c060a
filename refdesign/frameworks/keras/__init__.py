"""Binary layers for Keras 3 on any of its backends, and the folded engine.

The backend is Keras's own choice (`KERAS_BACKEND`, or the configuration file). Importing this package needs Keras and
that backend; the extra `keras` brings both with TensorFlow.
"""

from refdesign.errors import missing_extra

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    raise missing_extra("keras", getattr(error, "name", None) or "keras") from error

from refdesign.frameworks.estimators import ESTIMATORS
from refdesign.frameworks.keras.design import BatchNormDeSign, DeSign, straight_through_sign
from refdesign.frameworks.keras.engine import compile
from refdesign.frameworks.keras.export import to_network
from refdesign.frameworks.keras.layers import BinaryConv2D, BinaryDense, PixelInput
from refdesign.frameworks.keras.parameters import PROGRAMS, read_batch_norm
from refdesign.frameworks.keras.restore import from_network
from refdesign.frameworks.keras.trace import layer_outputs

__all__ = [
    "ESTIMATORS", "PROGRAMS", "BatchNormDeSign", "BinaryConv2D", "BinaryDense", "DeSign", "PixelInput", "compile",
    "from_network", "layer_outputs", "read_batch_norm", "straight_through_sign", "to_network",
]  # fmt: skip
