"""The two C extensions; everything else stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["cext/build_bpf.py:ffi", "cext/build_engine.py:ffi"])
