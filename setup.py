"""The build's entry point; metadata and the tools' settings are in pyproject.toml."""

from setuptools import setup

setup()
