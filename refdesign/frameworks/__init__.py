"""Accelerated implementations, one package per framework, each imported only when it is asked for."""
