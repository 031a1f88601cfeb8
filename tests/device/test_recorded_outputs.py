"""Every parser reads what real machines printed; where each text was found stands beside it in the recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.machines import recordings as recorded

from reid_edge.device.jetson import Jetson, parse_dpkg, parse_l4t
from reid_edge.device.nvidia_smi import parse_cuda_version, parse_gpus
from reid_edge.device.opencv_build import parse_video_readers
from reid_edge.device.power_modes import PowerMode, fastest_mode, parse_active_mode, parse_power_modes
from reid_edge.device.tegrastats import parse_tegrastats
from reid_edge.engines.facts import board_versions


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (recorded.L4T_32, "32.5.1"),
        (recorded.L4T_35, "35.4.1"),
        (recorded.L4T_36, "36.4.3"),
        (recorded.L4T_38, "38.2.0"),
        (recorded.L4T_39, "39.2.0"),
    ],
)
def test_jetson_linux(text: str, version: str, tmp_path: Path) -> None:
    """As the rows of figures have it, whose own reading must agree."""
    assert parse_l4t(text) == version
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(text)
    assert board_versions(tmp_path) == {"L4T": version}


def test_packages_that_are_installed_and_those_that_are_not() -> None:
    assert parse_dpkg(recorded.DPKG) == {
        "libnvidia-container-tools": "1.7.0-1",
        "libnvidia-container0": "0.10.0+jetpack",
    }


@pytest.mark.parametrize(
    ("version", "jetpack"),
    # https://github.com/NVIDIA/TensorRT-LLM/issues/4461, https://github.com/microsoft/onnxruntime/issues/18951
    [("6.2+b77", "6.2"), ("6.1+b123", "6.1"), ("5.1.2-b104", "5.1.2"), ("", "")],
)
def test_jetpack_without_its_build(version: str, jetpack: str) -> None:
    assert Jetson("", "36.4.3", {"nvidia-jetpack": version} if version else {}).jetpack == jetpack


@pytest.mark.parametrize(("text", "mode"), recorded.ACTIVE_MODES.items())
def test_the_active_mode(text: str, mode: tuple[int, str]) -> None:
    assert parse_active_mode(text) == PowerMode(*mode)


@pytest.mark.parametrize("board", recorded.BOARD_MODES)
def test_the_fastest_mode_of_each_board(board: str) -> None:
    """Mode 0 is not the fastest of an Orin Nano Super, and is of all others here."""
    names, fastest = recorded.BOARD_MODES[board]
    expected = tuple(PowerMode(number, name) for number, name in enumerate(names))
    for text in (recorded.verbose_modes(names), recorded.conf_modes(names)):
        assert parse_power_modes(text) == expected
    assert fastest_mode(expected) == expected[fastest]


def test_the_fastest_mode_of_a_board_without_maxn() -> None:
    modes = parse_power_modes(recorded.XAVIER_NX_MODES)
    assert len(modes) == 9
    assert fastest_mode(modes) == PowerMode(8, "MODE_20W_6CORE")


def test_tegrastats_of_jetpack_4() -> None:
    stats = parse_tegrastats(recorded.TX2_JETPACK_4)
    assert stats is not None
    assert (stats.ram_used_mb, stats.ram_total_mb, stats.gpu_percent, stats.gpu_mhz) == (1689, 3825, 0, None)
    assert stats.temperatures_c == {
        "PLL": 50.5, "MCPU": 50.5, "PMIC": 50, "GPU": 50, "BCPU": 50.5, "thermal": 50.3
    }  # fmt: skip
    assert stats.power_mw == {} and stats.total_mw is None


def test_tegrastats_with_rails_that_have_no_unit() -> None:
    stats = parse_tegrastats(recorded.TX2_RAILS)
    assert stats is not None and stats.total_mw == 3140
    assert stats.power_mw["VDD_SYS_GPU"] == 153 and len(stats.power_mw) == 6


def test_tegrastats_with_sensors_that_are_off() -> None:
    stats = parse_tegrastats(recorded.AGX_ORIN)
    assert stats is not None
    assert (stats.gpu_percent, stats.gpu_mhz) == (0, 0)
    assert set(stats.temperatures_c) == {"CPU", "Tboard", "SOC2", "Tdiode", "SOC0", "tj", "SOC1"}
    assert stats.power_mw == {"VDD_GPU_SOC": 2340, "VDD_CPU_CV": 390, "VIN_SYS_5V0": 4025, "VDDQ_VDD2_1V8AO": 301}


def test_tegrastats_of_jetpack_6_with_and_without_root() -> None:
    busy, idle = parse_tegrastats(recorded.ORIN_NANO), parse_tegrastats(recorded.ORIN_NANO_USER)
    assert busy is not None and idle is not None
    assert (busy.gpu_percent, busy.gpu_mhz, busy.total_mw) == (63, 621, 12479)
    assert (idle.gpu_percent, idle.gpu_mhz, idle.total_mw) == (0, None, 4824)
    assert idle.temperatures_c["tj"] == 50.25


def test_tegrastats_of_jetpack_7() -> None:
    stats = parse_tegrastats(recorded.AGX_ORIN_JETPACK_7)
    assert stats is not None
    assert (stats.gpu_percent, stats.gpu_mhz, stats.temperatures_c) == (0, 1300, {"cpu": 52.968})


def test_gpus_are_read_by_the_names_of_the_columns() -> None:
    first, second = parse_gpus(recorded.TWO_GPUS)
    assert (first.name, first.driver, first.compute_capability) == ("NVIDIA TITAN V", "570.86.15", "7.0")
    assert (second.name, second.compute_capability) == ("NVIDIA RTX 5880 Ada Generation", "8.9")
    assert first.memory_bytes is None and not first.slowed


def test_what_a_driver_does_not_say_is_unknown() -> None:
    text = (
        "name, driver_version, memory.total [MiB], clocks_event_reasons.hw_slowdown\nOrin (nvgpu), N/A, [N/A], Active\n"
    )
    (gpu,) = parse_gpus(text)
    assert (gpu.name, gpu.driver, gpu.memory_bytes, gpu.slowed) == ("Orin (nvgpu)", "", None, True)
    assert parse_gpus("No devices were found\n") == ()
    assert parse_gpus('Field "compute_cap" is not a valid field to query.\n\n') == ()


def test_the_newest_cuda_of_a_driver() -> None:
    assert parse_cuda_version(recorded.SMI_JETPACK_6) == "12.6"
    assert parse_cuda_version(recorded.SMI_NIXOS) == ""


@pytest.mark.parametrize(
    ("text", "readers"),
    [
        (recorded.OPENCV_DEBIAN, {"FFMPEG": True, "GStreamer": True}),
        (recorded.OPENCV_WHEEL, {"FFMPEG": True, "GStreamer": False}),
        (recorded.OPENCV_3, {"FFMPEG": True, "GStreamer": True}),
    ],
)
def test_what_an_opencv_reads(text: str, readers: dict[str, bool]) -> None:
    assert parse_video_readers(text) == readers


def test_the_opencv_that_is_here() -> None:
    cv2 = pytest.importorskip("cv2")
    assert set(parse_video_readers(cv2.getBuildInformation())) == {"FFMPEG", "GStreamer"}
