"""What must not leave with a bug report, and what may."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh.cli.secrets import scrubbed

KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
BODY = KEY.splitlines()[1]
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IkEifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLWl0"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"before\n{KEY}after", BODY),
        (KEY[:120], BODY[:40]),
        (f"tls.key: {base64.b64encode(KEY.encode()).decode()}", base64.b64encode(KEY.encode()).decode()[20:80]),
        (f'{{"note": "{JWT}"}}', JWT),
        ("Authorization: Bearer c2VjcmV0LXRva2Vu", "c2VjcmV0LXRva2Vu"),
        ("SEINE_TOKEN=abcdef", "abcdef"),
        ("token: abcdef", "abcdef"),
        ('{"db_password": "hun\\"ter2"}', "ter2"),
        ("- name: DB_PASSWORD\n  value: hunter2 too", "hunter2"),
        ('{"name": "API_KEY", "value": "hunter2"}', "hunter2"),
        ("postgres://shop:hunter2@db:5432/shop", "hunter2"),
        ("clientSecret: 'hunter2'", "hunter2"),
    ],
)
def test_a_secret_goes_wherever_it_stands(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in scrubbed(text)


@pytest.mark.parametrize(
    "text",
    [
        "automountServiceAccountToken: false",
        'SEINE_AUTHORITY_TOKEN: "/var/run/secrets/seine/token"',
        '{"tokens": 3, "name": "web"}',
        "spiffe://cluster.local/ns/shop/sa/front",
        "http://10.0.0.1:8080/path",
        "- name: SEINE_NODE\n  value: node-a",
        "handshakes 12, signatures 24",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert scrubbed(text) == text


@pytest.mark.parametrize("line", ["ab.cd-" * 20_000, "token." * 20_000, "name: token" + " " * 120_000 + "x"])
def test_a_long_line_of_a_stranger_holds_nobody_up(line: str) -> None:
    """It could be in a log: paths and names are what clients make them."""
    began = time.monotonic()
    scrubbed(line)
    assert time.monotonic() - began < 10  # 0.1 s; quadratic it would be minutes
