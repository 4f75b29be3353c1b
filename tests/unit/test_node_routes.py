"""What the agent makes of a look at the tables: repairs counted, refusals told, nothing kept without the claim."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs

from mesh import node_routes
from mesh.config import AgentConfig, NodeRouting
from mesh.model import Host
from mesh.node.routing import Standing, plan
from mesh.node.tables import Found, Link, Route
from mesh.node_routes import MARK, NodeRoutes

ETH = Link(index=2, name="eth0", mtu=1500, up=True, addresses=("192.0.2.1/24",))
TWO = Host(name="n2", addresses=("192.0.2.2",), pod_cidrs=("10.244.2.0/24",))
THREE = Host(name="n3", addresses=("192.0.2.3",), pod_cidrs=("10.244.3.0/24",))


class Machine:
    """Tables in memory, in place of netlink's."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.refuses: set[str] = set()
        self.silent = ""

    def settle(self, hosts, own, mode):
        if self.silent:
            raise OSError(self.silent)
        found = Found(links=(ETH,), routes=tuple(self.routes.values()))
        made = plan(hosts, own, found, mode)
        self.routes |= {route.destination: route for route in made.put if route.destination not in self.refuses}
        for route in made.remove:
            del self.routes[route.destination]
        return found, made, {route: "No buffer space" for route in made.put if route.destination in self.refuses}


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(node_routes, "settle", machine.settle)
    monkeypatch.setattr(node_routes, "claimed", lambda: object())
    return machine


def agents(run_root: Path, mode: NodeRouting = NodeRouting.ENABLED) -> NodeRoutes:
    config = AgentConfig(node="n1", run_root=run_root, node_routing=mode)
    config.run_dir.mkdir(exist_ok=True)
    return NodeRoutes(config)


def look(routes: NodeRoutes, *hosts: Host) -> None:
    routes.see(hosts)
    asyncio.run(routes._settle())


def test_only_what_was_there_and_is_gone_is_a_repair(machine, tmp_path, caplog):
    routes = agents(tmp_path)
    look(routes, TWO)
    look(routes, TWO, THREE)
    assert routes.repairs_total == 0
    del machine.routes["10.244.2.0/24"]
    look(routes, TWO, THREE)
    look(routes, TWO, THREE)
    assert routes.repairs_total == 1
    assert "the route to 10.244.2.0/24 was removed by somebody and is back" in caplog.text


def test_a_change_of_a_node_is_no_repair(machine, tmp_path):
    routes = agents(tmp_path)
    look(routes, TWO)
    look(routes, structs.replace(TWO, addresses=("192.0.2.22",)))
    look(routes)
    look(routes, TWO)
    assert routes.repairs_total == 0


def test_what_the_kernel_refuses_is_told_and_is_no_repair_when_it_works_later(machine, tmp_path, caplog):
    routes = agents(tmp_path)
    machine.refuses.add("10.244.2.0/24")
    look(routes, TWO, THREE)
    two, three = routes.neighbours
    assert (two.standing, three.standing) == (Standing.FAILED, Standing.ROUTED)
    assert two.detail == "the kernel refuses the route to 10.244.2.0/24 via 192.0.2.2: No buffer space"
    assert two.detail in caplog.text
    machine.refuses.clear()
    look(routes, TWO, THREE)
    assert routes.neighbours[0].standing is Standing.ROUTED
    assert routes.repairs_total == 0


def test_the_same_trouble_is_logged_once(machine, tmp_path, caplog):
    routes = agents(tmp_path)
    machine.silent = "the kernel refuses to show its routes"
    look(routes, TWO)
    look(routes, TWO)
    assert routes.problem == machine.silent
    assert caplog.text.count(machine.silent) == 1
    machine.silent = ""
    look(routes, TWO)
    assert routes.problem == ""


def test_without_the_claim_nothing_is_touched(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(node_routes, "claimed", lambda: None)
    routes = agents(tmp_path)
    look(routes, TWO)
    assert "another agent keeps the routes" in routes.problem
    assert machine.routes == {}
    assert not (tmp_path / "n1" / MARK).exists()


def test_the_mark_stays_as_long_as_there_may_be_routes_of_ours(machine, tmp_path):
    look(agents(tmp_path), TWO)
    assert (tmp_path / "n1" / MARK).exists()
    look(agents(tmp_path, NodeRouting.DISABLED), TWO)
    assert machine.routes == {}
    assert not (tmp_path / "n1" / MARK).exists()


@pytest.mark.parametrize(
    ("hosts", "mode", "concerned"),
    [
        ((TWO,), NodeRouting.AUTO, True),
        ((TWO,), NodeRouting.DISABLED, False),
        ((structs.replace(TWO, name="n1"),), NodeRouting.AUTO, False),
        ((structs.replace(TWO, pod_cidrs=()),), NodeRouting.AUTO, False),
        ((), NodeRouting.ENABLED, False),
    ],
)
def test_an_agent_without_other_nodes_does_not_even_load_netlink(tmp_path, hosts, mode, concerned):
    routes = agents(tmp_path, mode)
    routes.see(hosts)
    assert routes._concerned() is concerned
