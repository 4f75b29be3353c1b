"""/proc read as the kernel documents it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench import proc


def test_busy_time_leaves_out_idle_iowait_and_steal() -> None:
    line = "cpu  100 20 300 90000 4000 5 60 700 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert proc.busy_seconds(line) == pytest.approx((100 + 20 + 300 + 5 + 60) / proc.TICK)


def test_busy_time_of_this_machine_is_its_own_sum() -> None:
    assert 0 < proc.busy_seconds() <= proc.busy_seconds()


def test_a_tree_holds_the_children_of_children() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        try:
            while len(found := proc.tree(child.pid)) < 2:
                assert child.poll() is None
            assert found[0] == child.pid
        finally:
            child.communicate(b"\n")


def test_process_time_and_memory_of_the_living() -> None:
    assert proc.process_seconds([os.getpid()]) > 0
    assert proc.pss_kib([os.getpid()]) > 1000


def test_time_of_a_child_that_ended_is_its_parents() -> None:
    before = proc.process_seconds([os.getpid()])
    child = subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"])
    child.wait()
    assert proc.process_seconds([os.getpid(), child.pid]) - before > 0.25


def test_sockets_are_counted_by_their_own_caches() -> None:
    head = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> ...\n"
    rows = "TCP 10 13 2048 13 8 : x\ndentry 9999 9999 192 21 1 : x\nsock_inode_cache 4 4 1024 8 2 : x\n"
    assert proc.sockets_kib(head + rows) == 10 * 2 + 4


def test_kernel_memory_counts_slab_and_buffers() -> None:
    assert proc.kernel_kib() > 1000
