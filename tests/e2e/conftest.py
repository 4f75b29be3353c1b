"""A failed test shows what the mesh said meanwhile."""

import json

import pytest

from mesh.cli.client import AgentDown, AgentError
from tests.kit import seine

LOG_LINES = 60


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for mesh in seine.running:
            report.sections.append((f"agent of {mesh.node}", "\n".join(mesh.log().splitlines()[-LOG_LINES:])))
            report.sections.append((f"status of {mesh.node}", _status(mesh)))


def _status(mesh: seine.Mesh) -> str:
    try:
        document = mesh.status()
    except (AgentDown, AgentError) as reason:
        return str(reason)
    return json.dumps({key: document[key] for key in ("pods", "workers", "source", "repairs")}, indent=1)
