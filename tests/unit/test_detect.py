import pytest

from mesh.detect import PROTOCOLS, declared
from mesh.model import Protocol


@pytest.mark.parametrize(
    ("app_protocol", "name", "expected"),
    [
        ("", "", Protocol.DETECT),
        (None, None, Protocol.DETECT),
        ("", "http", Protocol.HTTP),
        ("", "http-admin", Protocol.HTTP),
        ("", "HTTP", Protocol.HTTP),
        ("", "grpc", Protocol.HTTP2),
        ("", "grpc-orders", Protocol.HTTP2),
        ("", "grpc-web", Protocol.HTTP),
        ("", "grpc-web-shop", Protocol.HTTP),
        ("", "http2", Protocol.HTTP2),
        ("", "https", Protocol.TLS),
        ("", "tls-mail", Protocol.TLS),
        ("", "tcp", Protocol.OPAQUE),
        ("", "tcp-http", Protocol.OPAQUE),
        ("", "postgresql", Protocol.OPAQUE),
        ("", "web", Protocol.DETECT),
        ("", "httpx", Protocol.DETECT),
        ("", "my-http", Protocol.DETECT),
        ("http", "tcp", Protocol.HTTP),
        ("https", "http", Protocol.TLS),
        ("kubernetes.io/h2c", "", Protocol.HTTP2),
        ("kubernetes.io/ws", "", Protocol.HTTP),
        ("kubernetes.io/wss", "", Protocol.TLS),
        ("linkerd.io/opaque", "http", Protocol.OPAQUE),
        ("tcp", "http", Protocol.OPAQUE),
        ("example.com/own", "http", Protocol.DETECT),
    ],
)
def test_app_protocol_wins_over_the_name_and_unknown_means_detect(app_protocol, name, expected):
    assert declared(app_protocol, name) is expected


def test_every_known_name_is_spelt_as_it_is_looked_up():
    assert all(name == name.lower() for name in PROTOCOLS)
    assert Protocol.DETECT not in PROTOCOLS.values()
