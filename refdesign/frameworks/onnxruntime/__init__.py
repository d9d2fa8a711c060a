"""ONNX Runtime, as an implementation under test; the extra `onnx` brings it."""
