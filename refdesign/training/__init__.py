"""Straight-through training of binary networks on PyTorch, and their export as golden networks.

Importing this package loads no framework; its modules need PyTorch, which the extra `train` brings.
"""
