"""The three C extensions; bpf/ and the CRDs inside an installed package. Everything else stands in pyproject.toml."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFiles(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder, name in (("bpf", "bpf"), ("deploy/crds", "crds")):
                copytree(folder, Path(self.build_lib, "mesh", name), dirs_exist_ok=True)


setup(
    cffi_modules=["cext/build_bpf.py:ffi", "cext/build_engine.py:ffi", "cext/build_engine.py:signer_ffi"],
    cmdclass={"build_py": BuildWithFiles},
)
