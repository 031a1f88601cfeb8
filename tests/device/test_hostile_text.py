"""No text of a machine makes a parser fail: odd content is unknown."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.machines import recordings
from hypothesis import given
from hypothesis import strategies as st

from reid_edge.device.clocks import read_cpu_clocks, read_gpu_clock
from reid_edge.device.heat import read_zones
from reid_edge.device.host import CommandOutput, Host
from reid_edge.device.jetson import parse_dpkg, parse_l4t, read_jetson
from reid_edge.device.memory import parse_meminfo, parse_swaps, read_memory
from reid_edge.device.nvidia_smi import parse_cuda_version, parse_gpus
from reid_edge.device.opencv_build import parse_video_readers
from reid_edge.device.power_modes import fastest_mode, parse_active_mode, parse_power_modes
from reid_edge.device.python import last_json, read_import, read_python
from reid_edge.device.tegrastats import parse_tegrastats

PARSERS: list[Callable[[str], Any]] = [
    parse_active_mode,
    parse_cuda_version,
    parse_dpkg,
    parse_gpus,
    parse_l4t,
    parse_meminfo,
    parse_power_modes,
    parse_swaps,
    parse_tegrastats,
    parse_video_readers,
]
RECORDED = [text for name, text in vars(recordings).items() if name.isupper() and isinstance(text, str)]
PIECES = sorted({piece for text in RECORDED for piece in re.findall(r"\S+|\s", text)})


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(text=st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join))
def test_any_text(parse: Callable[[str], Any], text: str) -> None:
    parse(text)


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
def test_every_recording_is_read_by_every_parser(parse: Callable[[str], Any]) -> None:
    for text in RECORDED:
        parse(text)
        parse(text[: len(text) // 2])


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@pytest.mark.parametrize(
    "repeated",
    [
        "a",
        " ",
        "\n",
        "  Video I/O:\n",
        "    GStreamer:\n",
        "POWER_MODEL: ID=1 NAME=A ",
        "RAM 1/2MB VDD_",
        "ii  a ",
        "a, ",
    ],
)
def test_long_text_is_read_in_time(parse: Callable[[str], Any], repeated: str) -> None:
    """256 KiB, which is what a host reads. No pattern goes back and forth over it: that would take hours."""
    text = repeated * ((256 << 10) // len(repeated))
    started = time.process_time()
    parse(text)
    assert time.process_time() - started < 20


def test_lists_are_bounded() -> None:
    assert len(parse_power_modes("".join(f"POWER_MODEL: ID={number} NAME=A\n" for number in range(999)))) == 64
    assert len(parse_gpus("name, driver_version\n" + "GPU, 1\n" * 999)) == 64
    assert fastest_mode([]) is None


@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_any_answer_of_a_child(text: str) -> None:
    host = Host(run=lambda command, seconds: CommandOutput(text, "", 0))
    assert isinstance(last_json(CommandOutput(text)), dict)
    assert read_import(host, "cv2").error
    assert read_python(host) is None


@pytest.mark.parametrize(
    "raw",
    [
        '{"packages": 3, "places": [1], "version": null}',
        '{"packages": {"numpy": [["1", "2", "3"], 4, [5, 6]]}, "places": {"cv2": 1}, "virtual": "yes"}',
    ],
)
def test_an_answer_of_another_shape(raw: str) -> None:
    python = read_python(Host(run=lambda command, seconds: CommandOutput(raw, "", 0)))
    assert python is not None and not python.virtual and python.places == {}
    assert [package.version for found in python.packages.values() for package in found] in ([], ["5"])


def test_nested_json_is_no_answer() -> None:
    assert last_json(CommandOutput("[" * 100_000)) == {}


@pytest.mark.parametrize("text", ["", "\0", "-1", "9" * 400, "max", "\ud7ff", "nan", "x" * 10_000, "1\n2"])
def test_odd_files(text: str, tmp_path: Path) -> None:
    """The same text in every file that is read: unknown, or a number, but no error."""
    names = (
        "proc/meminfo proc/swaps proc/cpuinfo proc/self/cgroup proc/device-tree/model etc/nv_tegra_release "
        "etc/nvpmodel.conf "
        "sys/fs/cgroup/memory.max sys/fs/cgroup/memory.current sys/class/thermal/thermal_zone0/temp "
        "sys/class/thermal/thermal_zone0/type sys/class/thermal/thermal_zone0/trip_point_0_type "
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq sys/class/devfreq/17000000.gpu/cur_freq "
        "sys/class/devfreq/17000000.gpu/available_frequencies"
    )
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    host = Host(tmp_path, lambda command, seconds: CommandOutput(text, text, 1), "python")
    assert read_jetson(host) is None
    memory = read_memory(host)
    assert memory.total is None or memory.total > 0
    assert len(read_zones(host)) <= 1 and len(read_cpu_clocks(host)) == 1
    assert read_gpu_clock(host) is not None
