"""Binary layers for Keras 3 on any of its backends, and the folded engine.

The backend is Keras's own choice (`KERAS_BACKEND`, or the configuration file). Importing this package needs Keras and
that backend; the extra `keras` brings both with TensorFlow.
"""

from refdesign.errors import missing_extra

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    raise missing_extra("keras", getattr(error, "name", None) or "keras") from error

from refdesign.frameworks.keras.engine import compile
from refdesign.frameworks.keras.layers import BinaryConv2D, BinaryDense, DeSign
from refdesign.frameworks.keras.parameters import read_batch_norm

__all__ = ["BinaryConv2D", "BinaryDense", "DeSign", "compile", "read_batch_norm"]
