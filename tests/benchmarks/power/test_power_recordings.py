"""Power, clocks and energy from trees and texts that real machines gave; where each was found stands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.machines import recordings as recorded
from helpers.machines.orin_nano import ORIN_NANO

from reid_edge.benchmarks.power.meter import open_energy
from reid_edge.benchmarks.power.nvml import named_reasons
from reid_edge.benchmarks.power.rails import board_power, read_rails
from reid_edge.benchmarks.power.rapl import RaplCounter, read_rapl
from reid_edge.benchmarks.power.sampler import PowerSampler
from reid_edge.benchmarks.power.state import parse_memory_mhz, power_warnings, read_clocks
from reid_edge.device.host import CommandOutput, Host
from reid_edge.device.tegrastats import parse_tegrastats

# The files of an AGX Orin's two monitors, of which the second has channels that cannot be read, are those of
# https://github.com/alumet-dev/alumet/issues/212; labels and watts are tegrastats' on such a board
# (`recordings.AGX_ORIN`), and volts and amperes are chosen so that they give those watts.
AGX_ORIN = {
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1": {
        "name": "ina3221",
        "in1_label": "VDD_GPU_SOC",
        "in1_input": "19504",
        "curr1_input": "120",
        "in2_label": "VDD_CPU_CV",
        "in2_input": "19504",
        "curr2_input": "20",
        "in3_label": "VIN_SYS_5V0",
        "in3_input": "5032",
        "curr3_input": "800",
        "in7_label": "sum of shunt voltages",
    },
    "sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon2": {"name": "ina3221", "in1_label": "NC", "in3_label": "NC"},
}
# Files after https://docs.kernel.org/hwmon/ina3221.html, watts of `recordings.ORIN_NANO`, chosen in the same way.
ORIN_NANO_RAILS = {
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3": {
        "name": "ina3221",
        "in1_label": "VDD_IN",
        "in1_input": "4960",
        "curr1_input": "2516",
        "in2_label": "VDD_CPU_GPU_CV",
        "in2_input": "4960",
        "curr2_input": "941",
        "in3_label": "VDD_SOC",
        "in3_input": "4952",
        "curr3_input": "569",
    }
}
# Jetson Linux Developer Guide 32.x, "Software-based Power Consumption Modeling", for the TX2: "cat
# /sys/bus/i2c/drivers/ina3221x/0-0040/iio_device/rail_name_0", and the values that it prints.
TX2 = {
    "sys/bus/i2c/drivers/ina3221x/0-0040/iio_device": {
        "rail_name_0": "VDD_SYS_GPU",
        "in_current0_input": "180",
        "in_voltage0_input": "730",
        "in_power0_input": "1159",
    }
}
# https://github.com/powercap/powercap/issues/3 (what is within what); figures of powercap-info on an i5-13500 and, for
# memory, of https://github.com/intel/thermal_daemon/issues/45, an i7-4770S.
RAPL = {
    "sys/class/powercap/intel-rapl:0": {
        "name": "package-0",
        "energy_uj": "65997277274",
        "max_energy_range_uj": "262143328850",
    },
    "sys/class/powercap/intel-rapl:0:0": {
        "name": "core",
        "energy_uj": "48265700414",
        "max_energy_range_uj": "262143328850",
    },
    "sys/class/powercap/intel-rapl:0:1": {"name": "uncore", "energy_uj": "5981", "max_energy_range_uj": "262143328850"},
    "sys/class/powercap/intel-rapl:0:2": {
        "name": "dram",
        "energy_uj": "2469474853",
        "max_energy_range_uj": "262143999938",
    },
    "sys/class/powercap/intel-rapl:1": {"name": "psys", "energy_uj": "99", "max_energy_range_uj": "262143328850"},
}


def _no_command(command: object, seconds: float) -> CommandOutput:
    return CommandOutput()


def _host(root: Path, *trees: dict[str, dict[str, str]]) -> Host:
    for tree in trees:
        for folder, files in tree.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (root / folder / name).write_text(f"{text}\n")
    return Host(root, _no_command)


def test_the_rails_of_an_agx_orin_add_up_without_a_monitor_of_its_input(tmp_path: Path) -> None:
    """19.504 V x 0.12 A and x 0.02 A, and 5.032 V x 0.8 A: what tegrastats says, within 10 mW."""
    rails = read_rails(_host(tmp_path, AGX_ORIN))
    assert rails == pytest.approx({"VDD_GPU_SOC": 2.34048, "VDD_CPU_CV": 0.39008, "VIN_SYS_5V0": 4.0256})
    stats = parse_tegrastats(recorded.AGX_ORIN)
    assert stats is not None
    assert rails == pytest.approx({name: stats.power_mw[name] / 1e3 for name in rails}, abs=0.01)
    source, watts = board_power(rails) or ("", 0.0)
    assert source == "VDD_CPU_CV+VDD_GPU_SOC+VIN_SYS_5V0" and watts == pytest.approx(6.756, abs=0.001)


def test_the_input_of_an_orin_nano_is_its_own_rail_and_not_a_sum(tmp_path: Path) -> None:
    rails = read_rails(_host(tmp_path, ORIN_NANO_RAILS))
    source, watts = board_power(rails) or ("", 0.0)
    stats = parse_tegrastats(recorded.ORIN_NANO)
    assert stats is not None and source == "VDD_IN"
    assert watts == pytest.approx(stats.power_mw["VDD_IN"] / 1e3, abs=0.01)
    assert len(rails) == 3


def test_jetpack_4_says_milliwatts_itself(tmp_path: Path) -> None:
    assert read_rails(_host(tmp_path, TX2)) == {"VDD_SYS_GPU": 1.159}


def test_a_rail_without_a_figure_is_left_out(tmp_path: Path) -> None:
    torn = {folder: {**files, "curr1_input": "", "curr2_input": "-"} for folder, files in ORIN_NANO_RAILS.items()}
    assert list(read_rails(_host(tmp_path, torn))) == ["VDD_SOC"]
    assert board_power({}) is None


def test_rapl_counts_packages_and_memory_and_nothing_twice(tmp_path: Path) -> None:
    host = _host(tmp_path, RAPL)
    assert [zone.name for zone in read_rapl(host)] == ["package-0", "dram"]
    counter = RaplCounter.open(host)
    assert counter is not None and counter.joules() == 0
    folder = tmp_path / "sys/class/powercap"
    (folder / "intel-rapl:0/energy_uj").write_text("65999277274\n")  # 2 J on
    (folder / "intel-rapl:0:2/energy_uj").write_text("2469974853\n")  # half a joule on
    (folder / "intel-rapl:0:0/energy_uj").write_text("58265700414\n")
    assert counter.joules() == pytest.approx(2.5)


def test_a_rapl_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    host = _host(tmp_path, RAPL)
    energy = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    energy.write_text("262143328850\n")  # its largest value
    counter = RaplCounter.open(host)
    assert counter is not None
    energy.write_text("999999\n")
    assert counter.joules() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "odd", [{"max_energy_range_uj": "-1"}, {"max_energy_range_uj": "0"}, {"energy_uj": "-5"}, {"energy_uj": "0x12"}]
)
def test_a_rapl_zone_of_odd_numbers_is_left_out(tmp_path: Path, odd: dict[str, str]) -> None:
    folder = "sys/class/powercap/intel-rapl:0"
    host = _host(tmp_path, RAPL, {folder: {**RAPL[folder], **odd}})
    assert [zone.name for zone in read_rapl(host)] == ["dram"]
    counter = RaplCounter.open(host)
    assert counter is not None and counter.joules() == 0.0


def test_rapl_that_only_root_may_read_is_none(tmp_path: Path) -> None:
    """Since Linux 5.10; a file that cannot be read is one that is not there."""
    host = _host(tmp_path, RAPL)
    for file in tmp_path.glob("sys/class/powercap/*/energy_uj"):
        file.unlink()
    assert RaplCounter.open(host) is None and open_energy(host) is None


def test_the_board_of_a_jetson_comes_before_its_parts(tmp_path: Path) -> None:
    counter = open_energy(_host(tmp_path, ORIN_NANO_RAILS, RAPL), gpu=True)
    assert counter is not None and counter.source == "VDD_IN"
    counter.close()


def test_power_is_added_up_by_the_trapezoid_rule() -> None:
    """4 W and 6 W two seconds apart, then a look that fails, then 2 W a second later than the last: 10 J and 4 J."""
    looks = iter([(0.0, 4.0), (2.0, 6.0), (2.5, None), (3.0, 2.0)])
    now = [0.0]

    def watts() -> float | None:
        now[0], value = next(looks)
        return value

    sampler = PowerSampler("VDD_IN", watts, clock=lambda: now[0])
    for _ in range(3):
        sampler.look()
    assert sampler.joules() == pytest.approx(14.0)


def test_a_jetson_below_its_fastest_mode_is_warned_of_first(tmp_path: Path) -> None:
    """Recorded in 15 W where MAXN_SUPER is mode 2, with clocks that jetson_clocks has not pinned."""
    warnings = power_warnings(ORIN_NANO.host(tmp_path))
    assert warnings[0].startswith("this board is in power mode 15W (0), its fastest is MAXN_SUPER (2)")
    assert warnings[0].endswith("sudo nvpmodel -m 2") and "jetson_clocks" in warnings[1]


def test_the_clocks_of_a_jetson(tmp_path: Path) -> None:
    clocks = read_clocks(ORIN_NANO.host(tmp_path))
    assert (clocks.cpu_mhz, clocks.gpu_mhz, clocks.power_mode) == (729.6, 612.0, "15W (0)")
    assert clocks.memory_mhz == 2133.0


def test_a_machine_that_says_nothing_has_no_figures_and_no_warnings(tmp_path: Path) -> None:
    host = Host(tmp_path, _no_command)
    assert (power_warnings(host), read_rails(host), open_energy(host)) == ((), {}, None)


@pytest.mark.parametrize(
    ("line", "mhz"),
    [
        (recorded.AGX_ORIN, 2133.0),
        (recorded.AGX_ORIN_JETPACK_7, 3199.0),
        (recorded.TX2_JETPACK_4, None),
        (recorded.ORIN_NANO_USER, None),
    ],
)
def test_the_clock_of_a_jetsons_memory(line: str, mhz: float | None) -> None:
    assert parse_memory_mhz(line) == mhz


def test_reasons_of_a_gpu_are_those_that_cost_speed() -> None:
    """nvml.h: 0x4 is the power cap, 0x40 heat; idle, applications clocks and sync boost are no fault."""
    assert named_reasons(0x44) == ("software power cap", "hardware thermal slowdown")
    assert named_reasons(0x1 | 0x2 | 0x10) == ()
