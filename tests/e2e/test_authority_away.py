"""Agents that start while their authority is away: tunnels go on with the certificates that workers have."""

import pytest

from tests.kit import apps, talk
from tests.kit.lab import Lab, Pod
from tests.kit.two_nodes import TwoNodes

SECRET, OVERHEARD = "axolotl", "flamingo"


def echo(client: Pod, address: str, word: str) -> str:
    with client.connect(address, 7000) as sock:
        return talk.ask(sock, f"echo {word}")


@pytest.mark.timeout(120)
def test_agents_that_start_without_their_authority_go_on_by_tunnel(tmp_path_factory):
    with Lab("away") as lab:
        nodes = TwoNodes(lab, tmp_path_factory.mktemp("source"))
        client, server = nodes.pod("client", nodes.a), nodes.pod("server", nodes.b)
        outside = lab.pod("outside", node=nodes.a)
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
                with lab.wire.captured() as frames:
                    assert echo(outside, address, OVERHEARD) == OVERHEARD
                    assert echo(client, address, SECRET) == SECRET
                assert frames.complete
                assert frames.holding(OVERHEARD.encode()), "else plaintext would not be noticed"
                assert not frames.holding(SECRET.encode())
            listed = [[peer["workloads"] for peer in mesh.status()["peers"]] for mesh in nodes.mesh.values()]
            assert listed == [[1], [1]]
            assert all(mesh.status()["identity"]["answered_at"] == 0 for mesh in nodes.mesh.values())
