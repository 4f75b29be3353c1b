"""Engine tests run twice: as built for use, and (test_sanitizers.py) with the engine built for ASan and UBSan."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest

if "SEINE_TEST_ENGINE" in os.environ:
    for name, variable in (("_engine", "SEINE_TEST_ENGINE"), ("signing._signer", "SEINE_TEST_SIGNER")):
        spec = importlib.util.spec_from_file_location(f"mesh.forward.{name}", os.environ[variable])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"mesh.forward.{name}"] = module
        spec.loader.exec_module(module)

from tests.engine.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made
