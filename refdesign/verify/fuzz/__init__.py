"""Mutated network files: a reader may refuse them or give a network, and nothing else.

`targets` is the table of formats; `networks`, `onnx_models` and `foreign_files` make good files; `mutations`,
`native_mutations` and `onnx_mutations` change them; `foreign` has the readers of other frameworks' files; `campaign`
runs readers within limits; `python -m refdesign.verify.fuzz` is the command.
"""
