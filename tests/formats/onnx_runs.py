"""ONNX models run by two executors that share no code."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

Outputs = dict[str, NDArray[Any]]
LEVELS = onnxruntime.GraphOptimizationLevel


def runtime(model: Any, images: NDArray[Any], level: Any = LEVELS.ORT_ENABLE_ALL) -> Outputs:
    """What ONNX Runtime computes on one thread under an optimisation level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def reference(model: Any, images: NDArray[Any]) -> Outputs:
    """What the reference evaluator of ONNX computes."""
    evaluator = ReferenceEvaluator(model)
    with np.errstate(all="ignore"):  # it divides and multiplies as the model says
        return dict(zip(evaluator.output_names, evaluator.run(None, {evaluator.input_names[0]: images}), strict=True))


def assert_same(found: Outputs, expected: Outputs) -> None:
    """Every output found is the one expected, in dtype, shape and every bit (but for the sign of zeros)."""
    for name, array in found.items():
        assert array.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
