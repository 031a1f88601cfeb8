"""Memory, clocks and temperatures from the kernel's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reid_edge.device.clocks import ClockRange, read_cpu_clocks, read_gpu_clock
from reid_edge.device.heat import read_zones
from reid_edge.device.host import Host
from reid_edge.device.memory import read_memory

GIB = 1 << 30


def _host(root: Path, files: Mapping[str, object]) -> Host:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return Host(root)


def _meminfo(total: int = 8 * GIB, available: int = 6 * GIB, swap: int = 0, swap_free: int = 0) -> str:
    rows = {"MemTotal": total, "MemFree": 1, "MemAvailable": available, "SwapTotal": swap, "SwapFree": swap_free}
    return "".join(f"{name}:       {size >> 10} kB\n" for name, size in rows.items())


def test_memory_and_swap_on_a_disk(tmp_path: Path) -> None:
    swaps = "Filename\tType\tSize\tUsed\tPriority\n/swapfile file\t\t4194304\t\t0\t\t-2\n"
    files = {"proc/meminfo": _meminfo(swap=4 * GIB, swap_free=3 * GIB), "proc/swaps": swaps}
    memory = read_memory(_host(tmp_path, files))
    assert (memory.total, memory.available, memory.swap_total, memory.zram) == (8 * GIB, 6 * GIB, 4 * GIB, 0)
    assert memory.room == 9 * GIB


def test_compressed_memory_is_no_room(tmp_path: Path) -> None:
    """Six devices of a Jetson, 635 MiB each."""
    rows = "".join(f"/dev/zram{index}   partition\t650240\t0\t5\n" for index in range(6))
    files = {"proc/meminfo": _meminfo(swap=6 * 650240 << 10, swap_free=6 * 650240 << 10), "proc/swaps": rows}
    memory = read_memory(_host(tmp_path, files))
    assert memory.zram == memory.swap_total == 6 * 650240 << 10
    assert memory.room == 6 * GIB


@pytest.mark.parametrize(
    ("files", "limit", "available"),
    [
        ({"sys/fs/cgroup/memory.max": GIB, "sys/fs/cgroup/memory.current": GIB // 4}, GIB, GIB * 3 // 4),
        ({"sys/fs/cgroup/memory.max": "max"}, None, 6 * GIB),
        ({"sys/fs/cgroup/memory.max": 99 * GIB}, None, 6 * GIB),
        (
            {
                "proc/self/cgroup": "0::/docker/a",
                "sys/fs/cgroup/docker/a/memory.max": 2 * GIB,
                "sys/fs/cgroup/docker/memory.max": GIB,
                "sys/fs/cgroup/docker/memory.current": 2 * GIB,
            },
            GIB,
            0,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/b",
                "sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes": GIB,
                "sys/fs/cgroup/memory/docker/b/memory.usage_in_bytes": GIB // 2,
                "sys/fs/cgroup/memory.max": 1,
            },
            GIB,
            GIB // 2,
        ),
    ],
    ids=["a container", "no limit", "more than there is", "an outer group", "version 1"],
)
def test_the_limit_of_a_container(files: dict[str, object], limit: int | None, available: int, tmp_path: Path) -> None:
    memory = read_memory(_host(tmp_path, {"proc/meminfo": _meminfo(), **files}))
    assert (memory.limit, memory.available, memory.total) == (limit, available, limit or 8 * GIB)


def test_a_path_out_of_the_groups_is_not_followed(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/../../etc", "etc/memory.max": 1, "proc/meminfo": _meminfo()}
    assert read_memory(_host(tmp_path, files)).limit is None


def test_no_memory_that_is_known(tmp_path: Path) -> None:
    memory = read_memory(Host(tmp_path))
    assert (memory.total, memory.room) == (None, None)


def _policy(index: int, least: int, most: int, now: int, limit: int) -> dict[str, object]:
    folder = f"sys/devices/system/cpu/cpufreq/policy{index}"
    names = ("scaling_min_freq", "scaling_max_freq", "scaling_cur_freq", "cpuinfo_max_freq")
    return {f"{folder}/{name}": value for name, value in zip(names, (least, most, now, limit), strict=True)} | {
        f"{folder}/scaling_governor": "schedutil"
    }


def test_clocks_of_an_orin_in_a_mode_of_few_watts(tmp_path: Path) -> None:
    """The numbers are those of mode 15W of an Orin Nano Super (nvpmodel_p3767_0003_super.conf)."""
    gpu = "sys/class/devfreq/17000000.gpu"
    files = _policy(0, 729600, 1497600, 806400, 1728000) | _policy(4, 1497600, 1497600, 1497600, 1497600)
    files |= {f"{gpu}/cur_freq": 306000000, f"{gpu}/min_freq": 306000000, f"{gpu}/max_freq": 612000000}
    files |= {
        f"{gpu}/available_frequencies": "306000000 408000000 612000000 1020000000",
        f"{gpu}/governor": "nvhost_podgov",
    }
    host = _host(tmp_path, files)
    slow, held = read_cpu_clocks(host)
    assert slow == ClockRange("CPU 0", "schedutil", 806.4, 729.6, 1497.6, 1728.0)
    assert slow.capped and not slow.pinned and held.pinned and not held.capped
    graphics = read_gpu_clock(host)
    assert graphics == ClockRange("GPU", "nvhost_podgov", 306, 306, 612, 1020)
    assert graphics.capped


@pytest.mark.parametrize("name", ["17000000.gpu", "17000000.ga10b", "17000000.gv11b", "gpu-gpc-0"])
def test_the_gpu_by_the_names_of_several_boards(name: str, tmp_path: Path) -> None:
    host = _host(tmp_path, {f"sys/class/devfreq/{name}/cur_freq": 1, "sys/class/devfreq/15340000.vic/cur_freq": 2})
    assert read_gpu_clock(host) is not None


def test_other_devices_have_no_gpu_clock(tmp_path: Path) -> None:
    assert read_gpu_clock(_host(tmp_path, {"sys/class/devfreq/15340000.vic/cur_freq": 2})) is None
    assert read_cpu_clocks(Host(tmp_path)) == ()


def test_zones_are_sorted_and_those_that_are_off_left_out(tmp_path: Path) -> None:
    zones = "sys/class/thermal/thermal_zone"
    files = {
        **{f"{zones}0/type": "cpu-thermal", f"{zones}0/temp": 50031},
        **{f"{zones}1/type": "cv0-thermal", f"{zones}1/temp": -256000},
        **{f"{zones}2/type": "tj-thermal", f"{zones}2/temp": 99500},
        **{f"{zones}2/trip_point_0_type": "critical", f"{zones}2/trip_point_0_temp": 104500},
        **{f"{zones}2/trip_point_1_type": "passive", f"{zones}2/trip_point_1_temp": 99000},
    }
    hot, cool = read_zones(_host(tmp_path, files))
    assert (hot.name, hot.celsius, hot.throttles_c, hot.throttled) == ("tj-thermal", 99.5, 99.0, True)
    assert (cool.name, cool.throttles_c, cool.throttled) == ("cpu-thermal", None, False)
