"""What the peers of the mutual TLS benches prove to each other."""

import subprocess
from pathlib import Path

from tests.bench import pki


def test_openssl_accepts_both_ends_and_sees_who_they_are(tmp_path: Path) -> None:
    pki.issue(tmp_path)
    for end in pki.ENDS:
        done = subprocess.run(
            ["openssl", "verify", "-CAfile", tmp_path / "ca.pem", tmp_path / f"{end}.pem"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        shown = subprocess.run(
            ["openssl", "x509", "-noout", "-text", "-in", tmp_path / f"{end}.pem"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"URI:{pki.identity(end)}" in shown
        assert "NIST CURVE: P-256" in shown
