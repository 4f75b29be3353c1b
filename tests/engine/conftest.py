"""Engine tests run twice: as built for use, and (test_sanitizers.py) with the engine built for ASan and UBSan."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest

if path := os.environ.get("SEINE_TEST_ENGINE"):
    spec = importlib.util.spec_from_file_location("mesh.forward._engine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mesh.forward._engine"] = module
    spec.loader.exec_module(module)

from tests.engine.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made
