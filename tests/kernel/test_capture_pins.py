"""What stays when processes go: hooks, tables and notes; what an upgrade carries over; what repair and clean do."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh.capture import Kernel, clean, objects, pin_root
from mesh.capture._bpf import lib
from mesh.capture.kernel import SOURCE
from mesh.capture.links import Links
from mesh.capture.pins import fixed_cgroup, node_pins
from mesh.model import Direction, FailMode
from tests.kernel.capturing import Capturing, Enrolled, listen, plain, pod_address, service
from tests.kit.lab import Lab
from tests.kit.leftovers import cgroup2_root
from tests.kit.wait import eventually

serial = itertools.count()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("pins") as lab:
        yield lab


@pytest.fixture
def capture(lab: Lab) -> Capturing:
    return Capturing(lab)


def directory(lab: Lab) -> Path:
    return node_pins(pin_root(), lab.name)


def held(path: Path) -> int:
    """A descriptor of what is pinned there."""
    fd = objects.open_pin(path)
    assert fd is not None
    return fd


def reaches_its_worker(client: Enrolled, address: str, port: int = 80) -> bool:
    with client.pod.connect(address, port):
        carried, _ = client.outbound.accept()
        with carried:
            return plain(carried.getsockname()) == (address, port)


def test_the_agents_process_never_holds_the_compiler(capture):
    assert "bcc" not in sys.modules
    assert "libbcc" not in Path("/proc/self/maps").read_text()


def test_hooks_and_tables_outlive_every_process(capture):
    client = capture.enrol(capture.lab.pod("client"), fail_mode=FailMode.CLOSED)
    capture.know(pod_address("10.1.2.3"))

    def one_more_agent_is_killed() -> None:
        Kernel.open(capture.lab.name, cgroup_root=cgroup2_root(), pins=pin_root())
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="died"):
        capture.lab.pod("agent").python(one_more_agent_is_killed)
    capture.kernel.close()
    with client.pod.connect("10.1.2.3", 80):
        carried, _ = client.outbound.accept()
        assert plain(carried.getsockname()) == ("10.1.2.3", 80)
        carried.close()
    client.outbound.close()
    with pytest.raises(ConnectionRefusedError):
        client.pod.connect("10.1.2.3", 80)
    capture.open()


def test_a_new_agent_adopts_what_it_finds(capture):
    client = capture.enrol(capture.lab.pod("client"))
    vip, _ = capture.lab.vip()
    capture.know(service(vip, 80, ("10.0.0.1", 80)), pod_address("10.1.2.3"))
    app = client.pod.connect(vip, 80)
    client.outbound.accept()[0].close()
    slots, identities = capture.kernel.slots(), {path: path.stat().st_ino for path in directory(capture.lab).rglob("*")}
    captured = client.count("captured")
    capture.kernel.close()
    capture.open()
    assert capture.kernel.adopted
    assert capture.kernel.slots() == slots
    assert client.count("captured") == captured
    assert identities == {path: path.stat().st_ino for path in directory(capture.lab).rglob("*")}
    assert reaches_its_worker(client, "10.1.2.3")
    assert app.getpeername() == (vip, 80)
    app.close()


def test_destinations_of_an_earlier_agent_are_reconciled(capture):
    client = capture.enrol(capture.lab.pod("client"))
    vips = [capture.lab.vip()[0] for _ in range(3)]
    one, two = capture.lab.pod("one"), capture.lab.pod("two")
    capture.know(*(service(vip, 80, (one.ip, 8080)) for vip in vips[:2]))
    capture.kernel.close()
    capture.open()
    capture.known = []
    capture.know(service(vips[1], 80, (two.ip, 8080)), service(vips[2], 80, (two.ip, 8080)))
    capture.stop_beating()
    with listen(two, two.ip, 8080) as app:
        for vip in vips[1:]:
            with client.pod.connect(vip, 80):
                app.accept()[0].close()
    before = client.count("direct_unknown")
    sock = client.pod.socket()
    sock.setblocking(False)
    sock.connect_ex((vips[0], 80))
    sock.close()
    assert client.count("direct_unknown") == before + 1


def older(tmp_path: Path, change: Callable[[str], str], file: str = "types.h") -> Path:
    """The sources as an earlier release may have had them."""
    source = tmp_path / "bpf"
    shutil.copytree(SOURCE, source)
    text = (source / file).read_text()
    assert change(text) != text
    (source / file).write_text(change(text))
    return source


def wider(struct: str) -> Callable[[str], str]:
    """A struct that had one member more."""
    return lambda text: re.sub(rf"(struct {struct} \{{[^}}]*)\}};", r"\1    __u64 dropped;\n};", text)


def narrower_counters(text: str) -> str:
    return text.replace("REASONS_MAX = 64 ", "REASONS_MAX = 32 ")


@pytest.mark.parametrize(
    "change",
    [wider("pod"), wider("destination"), wider("port_rule"), narrower_counters],
    ids=["pod", "destination", "port_rule", "counters"],
)
def test_an_upgrade_across_a_changed_struct_loses_nothing(lab, tmp_path, change):
    capture = Capturing(lab, {"source": older(tmp_path, change)})
    client = capture.enrol(lab.pod("client"), fail_mode=FailMode.CLOSED, skip_outbound_ports=frozenset({5432}))
    vip, _ = lab.vip()
    capture.know(service(vip, 80, ("10.0.0.1", 80)))
    app = client.pod.connect(vip, 80)
    carried, _ = client.outbound.accept()
    waiting = client.pod.connect(vip, 80)  # captured, and accepted only after the upgrade
    app.sendall(b"before")
    old = set(directory(lab).iterdir())
    capture.kernel.close()
    capture.open()
    assert capture.kernel.adopted
    assert len(set(directory(lab).iterdir()) - old) == 1
    assert len(set(directory(lab).iterdir())) == 2
    assert capture.kernel.slots() == {0: next(iter(capture.kernel.slots().values()))}
    assert client.count("captured") == 2
    assert app.getpeername() == waiting.getpeername() == (vip, 80)
    assert carried.recv(64) == b"before"
    carried.sendall(b"after")
    assert app.recv(64) == b"after"
    late, _ = client.outbound.accept()
    assert plain(late.getsockname()) == (vip, 80)
    assert reaches_its_worker(client, vip)
    before = client.count("direct_skipped")
    sock = client.pod.socket()
    sock.setblocking(False)
    sock.connect_ex((vip, 5432))
    assert client.count("direct_skipped") == before + 1
    capture.stop_beating()
    with pytest.raises(ConnectionRefusedError):
        client.pod.connect(vip, 80)
    for each in (app, carried, waiting, late, sock):
        each.close()


def test_an_upgrade_across_a_changed_heartbeat_takes_nobody_for_dead(lab, tmp_path):
    """Until the workers, which live, have heard of the new map, the hooks have their last beat."""
    fewer = older(tmp_path, lambda text: text.replace("1 + 2 * WORKERS_MAX", "1 + WORKERS_MAX"), "maps.h")
    capture = Capturing(lab, {"source": fewer})
    client = capture.enrol(lab.pod("client"), fail_mode=FailMode.CLOSED)
    capture.know(pod_address("10.1.2.3"))
    capture.kernel.close()
    capture.open_without_a_beat()
    assert reaches_its_worker(client, "10.1.2.3")


def test_an_upgrade_that_cannot_carry_the_listeners_lets_them_be_set_first(lab, tmp_path):
    source = older(tmp_path, lambda text: text.replace("listeners, 1024", "listeners, 512"), "maps.h")
    capture = Capturing(lab, {"source": source})
    client = capture.enrol(lab.pod("client"), fail_mode=FailMode.CLOSED)
    capture.know(pod_address("10.1.2.3"))
    capture.kernel.close()

    def prepare(kernel: Kernel) -> None:
        assert not kernel.has_listener(0, Direction.OUTBOUND)
        kernel.set_listener(0, Direction.OUTBOUND, client.outbound.fileno())

    capture.open(before_switch=prepare)
    assert reaches_its_worker(client, "10.1.2.3")


def test_a_generation_that_was_left_half_made_is_made_anew(capture):
    client = capture.enrol(capture.lab.pod("client"))
    capture.know(pod_address("10.1.2.3"))
    (directory(capture.lab) / "staging").mkdir()
    capture.kernel.close()
    capture.open()
    assert {path.name for path in directory(capture.lab).iterdir()} > {"links"}
    assert not (directory(capture.lab) / "staging").exists()
    assert reaches_its_worker(client, "10.1.2.3")


def test_a_pin_of_another_size_under_our_name_is_not_believed(lab, tmp_path):
    """Somebody's table, or one of a build with other limits, where ours should be."""
    source = older(tmp_path, lambda text: text.replace("PORT_RULES_MAX = 16384", "PORT_RULES_MAX = 64"))
    capture = Capturing(lab, {"source": source})
    client = capture.enrol(lab.pod("client"), skip_outbound_ports=frozenset({5432}))
    capture.know(pod_address("10.1.2.3"))
    capture.kernel.close()
    capture.open()
    ours = next(path for path in directory(lab).iterdir() if path.name != "links")
    capture.kernel.close()
    wrong = Kernel.open(f"{lab.name}-other", cgroup_root=cgroup2_root(), pins=pin_root(), source=source)
    rules = next(node_pins(pin_root(), f"{lab.name}-other").glob("*/port_rules-*"))
    (ours / rules.name).unlink()
    fd = held(rules)
    objects.pin(fd, ours / rules.name)
    os.close(fd)
    wrong.close()
    clean(f"{lab.name}-other", pin_root(), cgroup2_root())
    capture.open()
    pinned = objects.Map("port_rules", held(ours / rules.name))
    pinned.close()
    assert pinned.max_entries == 16384
    assert reaches_its_worker(client, "10.1.2.3")


def test_repair_puts_back_what_was_detached_or_unpinned(capture):
    client = capture.enrol(capture.lab.pod("client"))
    capture.know(pod_address("10.1.2.3"))
    assert capture.kernel.repair() == []
    links = directory(capture.lab) / "links"
    fd = held(links / "connect4")
    lib.bpf_detach(fd)
    os.close(fd)
    (links / "sockops").unlink()
    objects.unpin_link(links / "sk_lookup-0")
    objects.unpin_link(links / "set_sockopt")
    assert not capture.kernel.effective(client.pod.cgroup)
    mended = capture.kernel.repair()
    assert len(mended) == 4, mended
    for name in ("connect4", "sockops", "sk_lookup-0", "set_sockopt"):
        assert any(name in sentence for sentence in mended)
    assert capture.kernel.repair() == []
    assert capture.kernel.effective(client.pod.cgroup)
    assert reaches_its_worker(client, "10.1.2.3")
    with capture.lab.pod("outside").connect(client.pod.ip, 8080):
        client.inbound.accept()[0].close()


def test_a_new_agent_mends_what_was_detached_while_it_was_away(capture):
    client = capture.enrol(capture.lab.pod("client"))
    capture.know(pod_address("10.1.2.3"))
    capture.kernel.close()
    for name in ("connect4", "sk_lookup-0"):
        objects.unpin_link(directory(capture.lab) / "links" / name)
    capture.open()
    capture.write(client)
    assert reaches_its_worker(client, "10.1.2.3")
    with capture.lab.pod("outside").connect(client.pod.ip, 8080):
        client.inbound.accept()[0].close()


def test_unenrolled_pods_go_direct_both_ways_and_their_slot_serves_another(capture):
    client, outside = capture.enrol(capture.lab.pod("client")), capture.lab.pod("outside")
    capture.know(pod_address(outside.ip))
    with client.pod.connect(outside.ip, 8080):
        client.outbound.accept()[0].close()
    assert client.count("captured") == 1
    capture.kernel.unenrol(client.slot)
    assert capture.kernel.slots() == {}
    assert not (directory(capture.lab) / "links" / "sk_lookup-0").exists()
    with listen(outside, outside.ip, 8080) as app, client.pod.connect(outside.ip, 8080):
        accepted, peer = app.accept()
        accepted.close()
        assert peer[0] == client.pod.ip
    with listen(client.pod, client.pod.ip, 8080) as app, outside.connect(client.pod.ip, 8080):
        app.accept()[0].close()
    capture.enrolled.clear()
    client.outbound.close()
    client.inbound.close()
    other = capture.enrol(capture.lab.pod("other"))
    assert (other.slot, other.count("captured")) == (0, 0)


def test_a_pod_whose_namespace_is_gone_is_no_trouble(capture):
    client = capture.enrol(capture.lab.pod("client"))
    capture.enrolled.clear()
    client.outbound.close()
    client.inbound.close()
    client.pod.remove()
    assert capture.kernel.repair() == []
    capture.kernel.close()
    capture.open()
    assert list(capture.kernel.slots()) == [0]
    capture.kernel.unenrol(0)
    assert capture.kernel.slots() == {}


def test_hooks_attached_too_low_are_not_effective_for_other_pods(lab):
    inner, outer = lab.pod("inner"), lab.pod("outer")
    name = f"{lab.name}-low"
    kernel = Kernel.open(name, cgroup_root=inner.cgroup, pins=pin_root())
    lab.at_end(clean, name, pin_root(), inner.cgroup)
    assert kernel.effective(inner.cgroup)
    assert not kernel.effective(outer.cgroup)
    kernel.close()
    clean(name, pin_root(), inner.cgroup)


def test_clean_leaves_nothing(capture):
    client, outside = capture.enrol(capture.lab.pod("client")), capture.lab.pod("outside")
    capture.know(pod_address(outside.ip))
    capture.kernel.close()
    assert clean(capture.lab.name, pin_root(), cgroup2_root()) != []
    assert not directory(capture.lab).exists()
    assert not fixed_cgroup(cgroup2_root(), capture.lab.name).exists()
    with listen(outside, outside.ip, 8080) as app, client.pod.connect(outside.ip, 8080):
        app.accept()[0].close()
    with listen(client.pod, client.pod.ip, 8080) as app, outside.connect(client.pod.ip, 8080):
        app.accept()[0].close()
    assert clean(capture.lab.name, pin_root(), cgroup2_root()) == []
    capture.open()


def test_links_are_detached_at_once_though_somebody_still_holds_them(capture):
    client, outside = capture.enrol(capture.lab.pod("client")), capture.lab.pod("outside")
    holder = Links(directory(capture.lab) / "links")
    capture.kernel.unenrol(client.slot)
    with listen(client.pod, client.pod.ip, 8080) as app, outside.connect(client.pod.ip, 8080):
        app.accept()[0].close()
    holder.close()
    eventually(lambda: not (directory(capture.lab) / "links" / "sk_lookup-0").exists(), "the pin to go")
