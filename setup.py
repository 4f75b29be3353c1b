"""The three C extensions and the CNI plugin; bpf/ and the CRDs inside an installed package. Everything else stands in
pyproject.toml."""

from pathlib import Path
from shutil import copytree
from subprocess import run

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# Static: it runs on nodes of any distribution, called by a container runtime that may give it nothing.
STATIC = [
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-ffunction-sections",
    "-Wl,--gc-sections",
    "-s",
]


class BuildWithFiles(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder, name in (("bpf", "bpf"), ("deploy/crds", "crds")):
                copytree(folder, Path(self.build_lib, "mesh", name), dirs_exist_ok=True)


class BuildWithPlugin(build_ext):
    def run(self) -> None:
        super().run()
        plugin = Path("" if self.inplace else self.build_lib, "mesh/cni/seine-cni")
        plugin.parent.mkdir(parents=True, exist_ok=True)
        run(["cc", *STATIC, "-o", plugin, *sorted(Path("cext/cni").glob("*.c"))], check=True)


setup(
    cffi_modules=["cext/build_bpf.py:ffi", "cext/build_engine.py:ffi", "cext/build_engine.py:signer_ffi"],
    cmdclass={"build_py": BuildWithFiles, "build_ext": BuildWithPlugin},
)
