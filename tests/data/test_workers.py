"""Worker processes: order, crashes, and termination with their parent."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from nanoemox.data.workers import Workers


def make(add: int) -> int:
    return add


def work(add: int, item: int, careful: bool) -> tuple[int, bool]:
    """Die of 5, unless careful."""
    if item == 5 and not careful:
        os._exit(1)
    return item + add, careful


def fail(add: int, item: int, careful: bool) -> int:
    raise ValueError(f"item {item}")


def light(add: int, item: int, careful: bool) -> bool:
    return "torch" in sys.modules or multiprocessing.parent_process() is None


def test_threads_keep_the_order() -> None:
    assert list(Workers(work, make, (10,)).run(i for i in range(20) if i != 5)) == [
        (i, (i + 10, False)) for i in range(20) if i != 5
    ]


def test_work_of_a_dead_process_is_redone() -> None:
    done = dict(Workers(work, make, (10,), processes=2).run(range(30)))
    assert list(done) == list(range(30))
    assert [value for value, _ in done.values()] == list(range(10, 40))
    careful = [item for item, (_, careful) in done.items() if careful]
    assert 5 in careful
    assert max(careful) < 5 + 2 * 4


def test_mistakes_are_raised() -> None:
    with pytest.raises(ValueError, match="item 0"):
        list(Workers(fail, make, (0,), processes=1).run([0, 1]))


def test_workers_import_only_what_their_task_needs() -> None:
    code = (
        "from nanoemox.data.workers import Workers\nfrom tests.data.test_workers import light, make\n"
        "assert list(Workers(light, make, (0,), processes=1).run([1])) == [(1, False)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_workers_end_with_their_parent() -> None:
    code = (
        "import os, time\nfrom nanoemox.data.workers import Workers\nfrom tests.data.test_workers import make, pid\n"
        "[print(p, flush=True) for _, p in Workers(pid, make, (0,), processes=1).run(range(1))]\n"
        "run = Workers(pid, make, (0,), processes=1).run(range(99))\n"
        "print(next(run)[1], flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{child}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":  # ended; nobody has asked for it yet
                return
        time.sleep(0.05)
    pytest.fail("the process lives on")


def pid(add: int, item: int, careful: bool) -> int:
    return os.getpid()
