"""Builds `mesh.forward._engine`, the engine in C behind cffi's API mode, which releases the GIL around each call, and
`mesh.forward.signing._signer`, the process with the node's private keys and the words that it understands.

The declarations are the headers themselves, read once by the compiler and once by cffi, so that nothing is written
twice. `python cext/build_engine.py` builds in place; setup.py names `ffi` and `signer_ffi` for installations.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
ROOT = HERE.parent
SOURCES = (
    *("pump", "timer", "buffer", "stats", "retire"),
    *("pods", "listen", "neighbours", "stock", "plan", "source", "names", "balance"),
    *("policies", "admit", "denial", "rulings", "authz", "normal"),
    *("session", "lapse", "start", "detect", "dial", "pool", "opaque", "leg", "flow"),
    *(
        "stream",
        "h2",
        "h2_frames",
        "tls",
        "peer",
        "credential",
        "algorithms",
        "provider",
        "signatures",
        "tunnel",
        "tunnel_io",
        "reach",
        "hbone",
        "carry",
    ),
    *("exchange", "request", "response", "relay", "reply"),
    *("http1", "http1_field", "http1_names", "http1_target", "http1_omit", "http1_chunked"),
)
SIGNER_SOURCES = ("signer",)
# A compiler newer than ours may warn of more: no reason not to build for users. The tests build with -Werror.
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-fvisibility=hidden")


def declarations(header: Path) -> str:
    """The header without what cffi does not read: conditionals, includes and the include guard."""
    lines = header.read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#if", "#endif", "#include", "#define SEINE_")))


def extension(module: str, headers: tuple[str, ...], sources: tuple[str, ...], libraries: tuple[str, ...]) -> FFI:
    made = FFI()
    made.cdef("".join(declarations(HERE / name) for name in headers))
    made.set_source(
        module,
        "".join(f'#include "{name}"\n' for name in headers),
        sources=[str((HERE / f"{name}.c").relative_to(ROOT)) for name in sources],
        depends=[str(path.relative_to(ROOT)) for path in sorted(HERE.glob("*.h"))],
        include_dirs=["cext"],
        libraries=list(libraries),
        extra_compile_args=list(FLAGS),
    )
    return made


ffi = extension("mesh.forward._engine", ("authz.h", "engine.h"), SOURCES, ("ssl", "crypto", "nghttp2", "m"))
signer_ffi = extension("mesh.forward.signing._signer", ("signing.h", "signer.h"), SIGNER_SOURCES, ("crypto",))

if __name__ == "__main__":
    import os

    os.chdir(ROOT)
    for each in (ffi, signer_ffi):
        each.compile(tmpdir=".", verbose=False)
