"""The two C extensions, and bpf/ inside the package of an installation; everything else stands in pyproject.toml."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithBpf(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            copytree("bpf", Path(self.build_lib, "mesh/bpf"), dirs_exist_ok=True)


setup(cffi_modules=["cext/build_bpf.py:ffi", "cext/build_engine.py:ffi"], cmdclass={"build_py": BuildWithBpf})
