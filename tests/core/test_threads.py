"""Cores that a process may use: worked by hand for both versions of control groups, and what child processes take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reid_edge.core.threads import THREAD_VARIABLES, usable_cores

V1, V2 = "4:memory:/m\n3:cpu,cpuacct:/a/b\n1:name=systemd:/\n", "0::/a/b\n"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _v1(root: Path, folder: str, quota: str, period: str = "100000") -> None:
    names = {
        f"sys/fs/cgroup/cpu/{folder}cpu.cfs_quota_us": quota,
        f"sys/fs/cgroup/cpu/{folder}cpu.cfs_period_us": period,
    }
    _write(root, {name: f"{text}\n" for name, text in names.items()})


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("300000 100000", 3),
        ("75000 25000", 3),
        ("150000 100000", 1),
        ("299999 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("max 100000", 8),
        ("max", 8),
        ("", 8),
        ("300000", 8),
        ("300000 0", 8),
        ("-1 100000", 8),
        ("three hundred", 8),
        ("\0\ufffd", 8),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, text: str, cores: int) -> None:
    _write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{text}\n"})
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("300000", "100000", 3), ("150000", "100000", 1), ("50000", "100000", 1), ("-1", "100000", 8), ("", "", 8)],
)
def test_a_quota_of_version_1(tmp_path: Path, quota: str, period: str, cores: int) -> None:
    _write(tmp_path, {"proc/self/cgroup": "2:memory:/\n1:cpu:/\n"})
    _v1(tmp_path, "", quota, period)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("own", "parent", "top", "cores"), [(5, 3, None, 3), (2, 3, 6, 2), (None, 4, 6, 4), (None, None, 1, 1)]
)
def test_the_smallest_quota_on_the_way_up_holds(
    tmp_path: Path, own: int | None, parent: int | None, top: int | None, cores: int
) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    _write(first, {"proc/self/cgroup": V1})
    _write(second, {"proc/self/cgroup": V2})
    for folder, quota in (("a/b/", own), ("a/", parent), ("", top), ("a/another/", 1)):
        if quota is not None:
            _v1(first, folder, f"{quota}00000")
            _write(second, {f"sys/fs/cgroup/{folder}cpu.max": f"{quota}00000 100000\n"})
    assert usable_cores(first) == usable_cores(second) == cores


def test_a_container_sees_its_own_group_at_the_top_of_the_mount(tmp_path: Path) -> None:
    _write(tmp_path, {"proc/self/cgroup": "3:cpu,cpuacct:/docker/0123abcd\n0::/docker/0123abcd\n"})
    _v1(tmp_path, "", "200000")
    assert usable_cores(tmp_path) == 2
    _write(tmp_path, {"sys/fs/cgroup/cpu.max": "100000 100000\n"})
    assert usable_cores(tmp_path) == 1


def test_without_readable_files_the_affinity_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path) == 8
    _write(tmp_path, {"proc/self/cgroup": "nothing known\n:\n", "sys/fs/cgroup/cpu.max/a": "a folder"})
    assert usable_cores(tmp_path) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5})
    assert usable_cores(tmp_path) == 1


def test_without_the_file_of_groups_the_top_of_the_mount_holds(tmp_path: Path) -> None:
    _write(tmp_path, {"sys/fs/cgroup/cpu.max": "300000 100000\n"})
    assert usable_cores(tmp_path) == 3


def _threads_in_a_child(before: str, **variables: str) -> list[str]:
    """The threads of OpenMP's variable and of OpenCV in a process that may run on one core, after ``before``."""
    code = (
        f"import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n{before}\n"
        "import cv2; print(os.environ.get('OMP_NUM_THREADS'), cv2.getNumThreads())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-2:]


_VERSION = "from reid_edge.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_command_line_bounds_its_libraries_unless_the_user_has() -> None:
    assert _threads_in_a_child(_VERSION) == ["1", "1"]
    assert _threads_in_a_child(_VERSION, OMP_NUM_THREADS="3", OPENCV_FOR_THREADS_NUM="4") == ["3", "4"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_library_leaves_its_hosts_settings_alone() -> None:
    code = "import numpy, reid_edge; from reid_edge.core.threads import usable_cores; usable_cores()"
    assert _threads_in_a_child(code, OPENCV_FOR_THREADS_NUM="5") == ["None", "5"]
