"""Requests have their time before the first one leaves, and a latency counts from then."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.bench.paced import WARM_UP_S, Client, schedule

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SLOW_S = 0.05


def test_the_schedule_is_the_same_for_everybody_and_has_its_rate() -> None:
    found = schedule(500, 20)
    assert found == schedule(500, 20)
    assert found == sorted(found)
    assert len(found) == pytest.approx(10_000, rel=0.05)
    assert 0 < found[0] < found[-1] < 20


def serve(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        while sock.recv(4096):
            time.sleep(SLOW_S)
            sock.sendall(ANSWER[:20])
            sock.sendall(ANSWER[20:])


def test_who_waits_for_a_connection_waits_since_he_was_due() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        client = Client("127.0.0.1", listener.getsockname()[1], 1)
        client.run([0.0, WARM_UP_S, WARM_UP_S, WARM_UP_S])
        (connection,) = client.idle
        connection.sock.close()
        client.selector.close()
        thread.join()
    assert client.waited == 2
    assert len(client.took) == 3, "the first second is not counted"
    for place, took in enumerate(client.took, 1):
        assert took >= place * SLOW_S
