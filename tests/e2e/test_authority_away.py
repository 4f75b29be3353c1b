"""Agents that start while their authority is away: tunnels go on with the certificates that workers have."""

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab
from tests.kit.two_nodes import TwoNodes

SECRET = "axolotl"


@pytest.mark.timeout(120)
def test_agents_that_start_without_their_authority_go_on_by_tunnel(tmp_path_factory):
    with Lab("away") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        client, server = nodes.pod("client", nodes.a), nodes.pod("server", nodes.b)
        apps.Talk(server)
        with nodes:
            nodes.wait_captured(client, server)
            nodes.wait_introduced()
            authority = lab.directory / "identity" / "authority.json"
            whole = authority.read_bytes()
            authority.write_bytes(whole[: len(whole) // 2])
            for mesh in nodes.mesh.values():
                mesh.kill_agent()
                mesh.start()
            nodes.wait_captured(client, server)
            for address in (server.ip, server.ip6):
                with lab.wire.captured() as frames, client.connect(address, 7000) as sock:
                    assert talk.ask(sock, f"echo {SECRET}") == SECRET
                assert not frames.holding(SECRET.encode())
            listed = [mesh.status()["peers"] for mesh in nodes.mesh.values()]
            assert all(peer["workloads"] for peers in listed for peer in peers), listed
