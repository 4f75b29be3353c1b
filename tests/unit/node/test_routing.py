"""What is wanted of the routing tables, against what is there: table tests without a kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mesh.config import NodeRouting
from mesh.model import Host
from mesh.node.routing import Neighbour, Plan, Standing, plan
from mesh.node.tables import LOCAL, MAIN, METRIC, PROTOCOL, Found, Link, Route, Rule

ETH = Link(index=2, name="eth0", mtu=1500, up=True, addresses=("192.0.2.1/24", "2001:db8::1/64"))
PODS = Link(index=3, name="cni0", mtu=1500, up=True, addresses=("10.244.1.1/24",))
ONE = Host(name="n1", addresses=("192.0.2.1", "2001:db8::1"), pod_cidrs=("10.244.1.0/24", "fd00:1::/64"))
TWO = Host(name="n2", addresses=("192.0.2.2", "2001:db8::2"), pod_cidrs=("10.244.2.0/24", "fd00:2::/64"))
THREE = Host(name="n3", addresses=("192.0.2.3",), pod_cidrs=("10.244.3.0/24",))
RULES = (
    Rule(version=4, priority=0, table=LOCAL),
    Rule(version=4, priority=32766, table=MAIN),
    Rule(version=4, priority=32767, table=253),
    Rule(version=6, priority=0, table=LOCAL),
    Rule(version=6, priority=32766, table=MAIN),
)
KERNELS = (
    Route(destination="192.0.2.0/24", link=2, protocol=2, metric=0),
    Route(destination="10.244.1.0/24", link=3, protocol=2, metric=0),
    Route(destination="fe80::/64", link=2, protocol=2, metric=256),
)
TWO_4 = Route(destination="10.244.2.0/24", gateway="192.0.2.2", link=2)
TWO_6 = Route(destination="fd00:2::/64", gateway="2001:db8::2", link=2)
STATIC = Route(destination="10.244.2.0/24", gateway="192.0.2.9", link=2, protocol=4, metric=0)


def found(*routes: Route, rules: tuple[Rule, ...] = RULES, links: tuple[Link, ...] = (ETH, PODS)) -> Found:
    return Found(links=links, routes=(*KERNELS, *routes), rules=rules)


def planned(
    *routes: Route,
    hosts: tuple[Host, ...] = (ONE, TWO),
    mode: NodeRouting = NodeRouting.ENABLED,
    rules: tuple[Rule, ...] = RULES,
    links: tuple[Link, ...] = (ETH, PODS),
) -> Plan:
    return plan(hosts, "n1", found(*routes, rules=rules, links=links), mode)


def only(made: Plan, cidr: str = "10.244.2.0/24") -> Neighbour:
    (one,) = [each for each in made.neighbours if each.cidr == cidr]
    return one


# --- wanted


def test_every_other_nodes_pods_are_routed_by_its_address_and_our_own_are_not():
    made = planned()
    assert made == Plan(put=(TWO_4, TWO_6), neighbours=made.neighbours)
    assert [(each.node, each.cidr, each.gateway, each.standing, each.interface) for each in made.neighbours] == [
        ("n2", "10.244.2.0/24", "192.0.2.2", Standing.ROUTED, "eth0"),
        ("n2", "fd00:2::/64", "2001:db8::2", Standing.ROUTED, "eth0"),
    ]
    assert (TWO_4.protocol, TWO_4.metric, TWO_4.table) == (PROTOCOL, METRIC, MAIN)


def test_what_is_there_is_left_as_it_is():
    assert planned(TWO_4, TWO_6) == Plan(neighbours=planned().neighbours)


def test_without_another_node_there_is_nothing_to_do():
    assert planned(hosts=(ONE,)) == Plan()
    assert planned(hosts=()) == Plan()


def test_a_node_whose_own_object_is_unknown_routes_all_the_same():
    assert planned(hosts=(TWO,)).put == (TWO_4, TWO_6)


def test_a_new_gateway_replaces_the_old_in_one_step():
    moved = structs.replace(TWO, addresses=("192.0.2.22", "2001:db8::2"))
    made = planned(TWO_4, TWO_6, hosts=(ONE, moved))
    assert made.put == (structs.replace(TWO_4, gateway="192.0.2.22"),)
    assert made.remove == ()


def test_a_network_that_moves_to_another_node_is_replaced_in_one_step():
    made = planned(TWO_4, TWO_6, hosts=(ONE, structs.replace(THREE, pod_cidrs=TWO.pod_cidrs[:1])))
    assert made.put == (structs.replace(TWO_4, gateway="192.0.2.3"),)
    assert made.remove == (TWO_6,)


def test_a_node_that_is_gone_takes_its_routes_along():
    assert planned(TWO_4, TWO_6, hosts=(ONE,)).remove == (TWO_4, TWO_6)


def test_a_route_of_ours_under_another_metric_is_replaced():
    old = structs.replace(TWO_4, metric=5)
    made = planned(old, TWO_6)
    assert (made.put, made.remove) == ((TWO_4,), (old,))


def test_disabled_wants_nothing_and_takes_everything_of_ours_out():
    rule = Rule(version=4, priority=99, table=MAIN, destination="10.244.2.0/24", protocol=PROTOCOL)
    made = planned(TWO_4, STATIC, mode=NodeRouting.DISABLED, rules=(rule, *RULES))
    assert made == Plan(remove=(TWO_4,), remove_rules=(rule,))


# --- packet sizes


@pytest.mark.parametrize(
    ("ours", "theirs", "link", "limit"),
    [(0, 0, 1500, 0), (0, 1400, 1500, 1400), (1400, 0, 1500, 1400), (1450, 1400, 1500, 1400), (0, 9000, 1500, 0),
     (0, 1500, 1500, 0), (9000, 9000, 9216, 9000)],
)  # fmt: skip
def test_a_size_is_written_only_where_it_is_smaller_than_the_interfaces(ours, theirs, link, limit):
    hosts = (structs.replace(ONE, mtu=ours), structs.replace(TWO, mtu=theirs))
    made = planned(hosts=hosts, links=(structs.replace(ETH, mtu=link),))
    assert {route.mtu for route in made.put} == {each.mtu for each in made.neighbours} == {limit}


# --- what cannot be


def unreachable(made: Plan, cidr: str = "10.244.2.0/24") -> str:
    one = only(made, cidr)
    assert one.standing is Standing.UNREACHABLE
    assert cidr not in [route.destination for route in made.put]
    return one.detail


def test_a_gateway_on_no_common_network_is_refused_and_others_go_on():
    far = structs.replace(TWO, addresses=("198.51.100.2", "2001:db8::2"))
    made = planned(hosts=(ONE, far, THREE))
    assert "198.51.100.2, the InternalIP of node n2, is on no network that this machine is connected to" in unreachable(
        made
    )
    assert [route.destination for route in made.put] == ["fd00:2::/64", "10.244.3.0/24"]


def test_a_node_without_an_address_of_the_family_is_refused():
    made = planned(hosts=(ONE, structs.replace(TWO, addresses=TWO.addresses[:1])))
    assert "node n2 has no IPv6 InternalIP" in unreachable(made, "fd00:2::/64")
    assert made.put == (TWO_4,)


def test_an_interface_that_is_down_leads_nowhere():
    made = planned(TWO_4, TWO_6, links=(structs.replace(ETH, up=False),))
    assert "is on no network" in unreachable(made)
    assert made.remove == (TWO_4, TWO_6)


def test_the_smallest_common_network_decides_which_interface():
    inner = Link(index=7, name="eth1", mtu=1500, up=True, addresses=("192.0.2.6/29",))
    assert only(planned(links=(ETH, inner))).interface == "eth1"
    assert only(planned(links=(inner, ETH))).interface == "eth1"


def test_a_gateway_that_is_this_machine_is_refused():
    assert "is an address of this machine itself" in unreachable(
        planned(hosts=(structs.replace(TWO, addresses=("192.0.2.1",)),))
    )


@pytest.mark.parametrize(
    ("cidr", "whose"),
    [
        ("192.0.0.0/16", "192.0.2.3, an address of node n3"),
        ("10.244.1.0/28", "10.244.1.1, an address of this machine"),
        ("192.0.2.2/32", "192.0.2.2, an address of node n2"),
    ],
)
@pytest.mark.parametrize("mode", [NodeRouting.ENABLED, NodeRouting.AUTO])
def test_pods_that_claim_addresses_of_machines_are_refused(cidr, whose, mode):
    made = planned(hosts=(ONE, THREE, structs.replace(TWO, pod_cidrs=(cidr,))), mode=mode)
    assert unreachable(made, cidr) == f"{cidr} holds {whose}, which a route would cut off"
    assert [route.destination for route in made.put] == ["10.244.3.0/24"], "nor does it keep others from being routed"


def test_what_a_machine_does_not_forward_is_told_beside_the_route():
    seen = structs.replace(found(), forwarding=frozenset({6}))
    four, six = plan((ONE, TWO), "n1", seen, NodeRouting.ENABLED).neighbours
    assert (four.standing, six.detail) == (Standing.ROUTED, "")
    assert "does not forward IPv4" in four.detail


# --- other people's routes


def test_somebody_elses_route_to_the_same_pods_is_a_conflict_and_stays():
    made = planned(STATIC, TWO_6)
    assert (made.put, made.remove) == ((), ())
    assert only(made).standing is Standing.CONFLICT
    assert only(made).detail == (
        "10.244.2.0/24 is routed via 192.0.2.9 by somebody else (static); that one stays and ours is left out"
    )


def test_a_conflict_that_comes_later_takes_ours_out():
    assert planned(STATIC, TWO_4, TWO_6).remove == (TWO_4,)


@pytest.mark.parametrize("destination", ["10.0.0.0/8", "10.244.2.128/25", "0.0.0.0/0"])
def test_enabled_minds_no_route_but_one_to_exactly_these_pods(destination):
    assert planned(structs.replace(STATIC, destination=destination)).put == (TWO_4, TWO_6)


def test_a_route_in_another_table_is_no_conflict():
    assert only(planned(structs.replace(STATIC, table=100))).standing is Standing.ROUTED


@pytest.mark.parametrize("destination", ["10.244.2.0/24", "10.244.2.7/32", "10.244.0.0/16", "10.0.0.0/8"])
@pytest.mark.parametrize("table", [MAIN, 100])
def test_auto_leaves_a_family_to_whoever_routes_any_of_its_pods(destination, table):
    other = structs.replace(STATIC, destination=destination, table=table)
    made = planned(other, TWO_4, hosts=(ONE, TWO, structs.replace(THREE, addresses=("198.51.100.1",))),
                   mode=NodeRouting.AUTO)  # fmt: skip
    assert [each.standing for each in made.neighbours] == [Standing.OTHERS, Standing.ROUTED, Standing.OTHERS]
    assert made.put == (TWO_6,)
    assert made.remove == (TWO_4,)
    assert "so all routes to IPv4 pods are left to others" in only(made).detail
    assert all(each.reached for each in made.neighbours)


@pytest.mark.parametrize("destination", ["0.0.0.0/0", "0.0.0.0/1", "203.0.113.0/24", "10.244.3.0/24"])
def test_auto_minds_neither_default_routes_nor_those_to_other_places(destination):
    assert planned(structs.replace(STATIC, destination=destination), mode=NodeRouting.AUTO).put == (TWO_4, TWO_6)


# --- policy routing


VPN = Rule(version=4, priority=5270, table=52)
ANSWER = structs.replace(STATIC, destination="0.0.0.0/0", table=52)


@pytest.mark.parametrize(
    ("rule", "answer", "needed"),
    [
        (VPN, ANSWER, True),
        (structs.replace(VPN, unconditional=False), ANSWER, True),
        (structs.replace(VPN, destination="10.0.0.0/8"), ANSWER, True),
        (VPN, structs.replace(ANSWER, destination="10.244.2.8/29"), True),
        (VPN, structs.replace(ANSWER, destination="203.0.113.0/24"), False),
        (VPN, structs.replace(ANSWER, table=53), False),
        (structs.replace(VPN, destination="203.0.113.0/24"), ANSWER, False),
        (structs.replace(VPN, exceptional=True), ANSWER, False),
        (structs.replace(VPN, prefix_above=0), ANSWER, False),
        (structs.replace(VPN, version=6), ANSWER, False),
    ],
)
def test_a_rule_is_needed_where_another_is_asked_first_and_has_an_answer(rule, answer, needed):
    made = planned(answer, rules=(RULES[0], rule, *RULES[1:]))
    ours = Rule(version=4, priority=5269, table=MAIN, destination="10.244.2.0/24", protocol=PROTOCOL)
    assert made.put_rules == ((ours,) if needed else ())
    again = planned(answer, TWO_4, TWO_6, rules=(RULES[0], ours, rule, *RULES[1:]))
    assert (again.put_rules, again.remove_rules) == ((), () if needed else (ours,))


def test_a_rule_that_asks_for_main_first_makes_ours_needless():
    """As wg-quick has it: everything but the default route of `main` comes before the tunnel's table."""
    first = Rule(version=4, priority=5000, table=MAIN, prefix_above=0)
    assert planned(ANSWER, rules=(RULES[0], first, VPN, *RULES[1:])).put_rules == ()


# --- always


networks = st.builds("10.{}.{}.0/24".format, st.integers(0, 3), st.integers(0, 3))
addresses = st.builds("192.0.2.{}".format, st.integers(1, 9))
hosts = st.lists(
    st.builds(
        lambda number, address, cidr: Host(name=f"n{number}", addresses=(address,), pod_cidrs=(cidr,)),
        st.integers(1, 5),
        addresses,
        networks,
    ),
    max_size=5,
    unique_by=(lambda host: host.name, lambda host: host.pod_cidrs),
)
others = st.lists(
    st.builds(
        lambda destination, protocol, gateway: Route(
            destination=destination, gateway=gateway, link=2, protocol=protocol, metric=METRIC
        ),
        networks,
        st.sampled_from([2, 4, PROTOCOL]),
        addresses,
    ),
    max_size=5,
    unique_by=lambda route: route.destination,
)


@given(hosts, others, st.sampled_from(NodeRouting))
def test_a_plan_carried_out_leaves_nothing_to_do_and_others_routes_alone(several, routes, mode):
    before = found(*routes)
    made = plan(several, "n1", before, mode)
    assert all(route.protocol == PROTOCOL for route in (*made.put, *made.remove))
    foreign = {route.destination for route in routes if route.protocol != PROTOCOL}
    assert not foreign & {route.destination for route in made.put}
    keys = {route.destination for route in made.put} | {route.destination for route in made.remove}
    stays = [route for route in before.routes if route.protocol != PROTOCOL or route.destination not in keys]
    after = structs.replace(before, routes=(*stays, *made.put))
    again = plan(several, "n1", after, mode)
    assert again == Plan(neighbours=made.neighbours)
