"""What commands and files of real machines said, each with the page it was read on.

Long ones are cut to the lines that matter; "..." marks no cut of a line.
"""

from __future__ import annotations

# /etc/nv_tegra_release
L4T_32 = (
    "# R32 (release), REVISION: 5.1, GCID: 26202423, BOARD: t186ref, EABI: aarch64, DATE: Fri Feb 19 16:50:29 UTC 2021"
)
"""A TX2: https://github.com/pokusew/ros-setup, nvidia-jetson-tx2/L4T.md"""
L4T_35 = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64"
"""The first line of JetPack 5.1.2's file, without its date, as several public repositories quote it."""
L4T_36 = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"
)
"""JetPack 6.2's file, as several public repositories quote it."""
L4T_38 = (
    "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025"
)
"""An AGX Thor: https://github.com/rbonghi/jetson_stats/issues/711"""
L4T_39 = "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1 09:28:48 PM UTC 2026"
"""An AGX Orin: https://github.com/rbonghi/jetson_stats/issues/864"""

# dpkg -l
DPKG = """\
Desired=Unknown/Install/Remove/Purge/Hold
| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend
|/ Err?=(none)/Reinst-required (Status,Err: uppercase=bad)
||/ Name                                 Version                 Architecture            Description
+++-====================================-=======================-=======================-=============================
un  libgldispatch0-nvidia                <none>                  <none>                  (no description available)
ii  libnvidia-container-tools            1.7.0-1                 arm64                   NVIDIA container runtime library
ii  libnvidia-container0:arm64           0.10.0+jetpack          arm64                   NVIDIA container runtime library
"""
"""https://github.com/NVIDIA/nvidia-docker/issues/1598"""

# nvpmodel -q
ACTIVE_MODES = {
    "NV Power Mode: MAXN\n0\n": (0, "MAXN"),  # AGX Thor: https://github.com/anduril/jetpack-nixos/pull/460
    # A Nano without root: https://github.com/NVIDIA-AI-IOT/jetbot/issues/49
    "NV Power Mode: 5W\n1\n"
    "NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n"
    "NVPM ERROR: failed to read PARAM EMC: ARG MAX_FREQ: PATH /sys/kernel/nvpmodel_emc_cap/emc_iso_cap\n": (1, "5W"),
}

# nvpmodel -p --verbose
XAVIER_NX_MODES = """\
NVPM VERB: POWER_MODEL: ID=0 NAME=MODE_15W_2CORE
NVPM VERB: POWER_MODEL: ID=1 NAME=MODE_15W_4CORE
NVPM VERB: POWER_MODEL: ID=2 NAME=MODE_15W_6CORE
NVPM VERB: POWER_MODEL: ID=3 NAME=MODE_10W_2CORE
NVPM VERB: POWER_MODEL: ID=4 NAME=MODE_10W_4CORE
NVPM VERB: POWER_MODEL: ID=5 NAME=MODE_10W_DESKTOP
NVPM VERB: POWER_MODEL: ID=6 NAME=MODE_20W_2CORE
NVPM VERB: POWER_MODEL: ID=7 NAME=MODE_20W_4CORE
NVPM VERB: POWER_MODEL: ID=8 NAME=MODE_20W_6CORE
"""
"""https://github.com/tonible14012002/fall_detector, README.md"""

BOARD_MODES = {
    # Numbers and names of the modes in NVIDIA's configurations, which `nvpmodel -p --verbose` lists and
    # /etc/nvpmodel.conf holds: https://github.com/LineageOS/android_device_nvidia_concord, nvpmodel/
    "AGX Orin 64GB (p3701_0000)": (["MAXN", "MODE_15W", "MODE_30W", "MODE_50W"], 0),
    "AGX Orin 32GB (p3701_0004)": (["MAXN", "MODE_15W", "MODE_30W", "MODE_40W"], 0),
    "Orin NX 16GB (p3767_0000)": (["MAXN", "10W", "15W", "25W"], 0),
    "Orin NX 16GB super (p3767_0000_super)": (["MAXN_SUPER", "10W", "15W", "25W", "40W"], 0),
    "Orin NX 8GB super (p3767_0001_super)": (["MAXN_SUPER", "10W", "15W", "20W", "40W"], 0),
    "Orin Nano 8GB (p3767_0003)": (["15W", "7W"], 0),
    "Orin Nano 8GB super (p3767_0003_super)": (["15W", "25W", "MAXN_SUPER"], 2),
    "Orin Nano 4GB (p3767_0004)": (["10W", "7W_AI", "7W_CPU"], 0),
}
"""The modes of a board from number 0 up, and the number of the fastest."""


def verbose_modes(names: list[str]) -> str:
    """Modes as ``nvpmodel -p --verbose`` lists them."""
    return "".join(f"NVPM VERB: POWER_MODEL: ID={number} NAME={name}\n" for number, name in enumerate(names))


def conf_modes(names: list[str]) -> str:
    """Modes as /etc/nvpmodel.conf holds them, each with the first lines of its settings."""
    settings = "CPU_ONLINE CORE_0 1\nGPU MIN_FREQ 0\n\n"
    modes = "".join(f"< POWER_MODEL ID={number} NAME={name} >\n{settings}" for number, name in enumerate(names))
    return f"< PARAM TYPE=FILE NAME=CPU_ONLINE >\n{modes}< PM_CONFIG DEFAULT=0 >\n"


# tegrastats
TX2_JETPACK_4 = (
    "RAM 1689/3825MB (lfb 339x4MB) SWAP 0/1913MB (cached 0MB) CPU [3%@345,off,off,0%@345,1%@345,1%@345] EMC_FREQ 0% "
    "GR3D_FREQ 0% PLL@50.5C MCPU@50.5C PMIC@50C GPU@50C BCPU@50.5C thermal@50.3C"
)
"""https://github.com/rbonghi/jetson_stats/issues/187"""
TX2_RAILS = (
    "RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345,25%@345,3%@345,1%@345,1%@345] EMC_FREQ 0% GR3D_FREQ 0% "
    "PLL@42.5C MCPU@42.5C PMIC@100C Tboard@40C GPU@41C BCPU@42.5C thermal@41.9C Tdiode@41.25C VDD_SYS_GPU 153/158 "
    "VDD_SYS_SOC 536/547 VDD_4V0_WIFI 633/527 VDD_IN 3140/3208 VDD_SYS_CPU 536/590 VDD_SYS_DDR 557/601"
)
"""https://github.com/FindHao/tx-utils/issues/3"""
AGX_ORIN = (
    "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729,0%@729,0%@729,"
    "0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 "
    "CV0@-256C CPU@44.562C Tboard@32C SOC2@40.093C Tdiode@33C SOC0@41.093C CV1@-256C GPU@-256C tj@44.343C SOC1@41.25C "
    "CV2@-256C VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
"""https://github.com/GDWR/jetson_exporter/issues/14"""
ORIN_NANO = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729,14%@729,13%@729,"
    "11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 "
    "cpu@53.968C soc2@52.437C soc0@50.75C gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW "
    "VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW"
)
"""With root. https://github.com/henrygd/beszel, agent/gpu_test.go, of its users' boards; so is the next one."""
ORIN_NANO_USER = (
    "06-18-2025 11:25:24 RAM 3452/7620MB (lfb 25x4MB) SWAP 1518/16384MB (cached 174MB) CPU [1%@1420,2%@1420,0%@1420,"
    "2%@1420,2%@729,1%@729] GR3D_FREQ 0% cpu@50.031C soc2@49.031C soc0@50C gpu@49.031C tj@50.25C soc1@50.25C "
    "VDD_IN 4824mW/4824mW VDD_CPU_GPU_CV 518mW/518mW VDD_SOC 1475mW/1475mW"
)
AGX_ORIN_JETPACK_7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 0%@[1300,1300] NVENC0 off NVDEC0 off APE 174 cpu@52.968C/52.968C"
)
"""https://github.com/rbonghi/jetson_stats/pull/894, which cuts the CPUs and what follows them."""

# nvidia-smi
TWO_GPUS = """\
compute_cap, compute_mode, driver_version, name, index
7.0, Default, 570.86.15, NVIDIA TITAN V, 0
8.9, Default, 570.86.15, NVIDIA RTX 5880 Ada Generation, 1
"""
"""https://github.com/triton-inference-server/server/pull/8070"""
SMI_JETPACK_6 = """\
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 540.4.0                Driver Version: 540.4.0      CUDA Version: 12.6     |
|-----------------------------------------+----------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |
"""
"""https://github.com/dusty-nv/jetson-containers/issues/1403"""
SMI_NIXOS = "| NVIDIA-SMI 540.4.0                Driver Version: 540.4.0      CUDA Version: N/A      |\n"
"""https://github.com/anduril/jetpack-nixos/pull/371"""

# cv2.getBuildInformation()
OPENCV_DEBIAN = """\
  Media I/O:
    ZLib:                        /usr/lib/x86_64-linux-gnu/libz.so (ver 1.2.13)

  Video I/O:
    DC1394:                      YES (2.2.6)
    FFMPEG:                      YES
      avcodec:                   YES (59.37.100)
      avformat:                  YES (59.27.100)
      avutil:                    YES (57.28.100)
      swscale:                   YES (6.7.100)
      avresample:                NO
    GStreamer:                   YES (1.22.0)
    PvAPI:                       NO
    v4l/v4l2:                    YES (linux/videodev2.h)
    gPhoto2:                     YES

  Parallel framework:            TBB (ver 2021.8 interface 12080)
"""
"""The package libopencv-core406 4.6.0 of Debian 12."""
OPENCV_WHEEL = """\
  Video I/O:
    FFMPEG:                      YES
      avcodec:                   YES (62.28.101)
      avformat:                  YES (62.12.101)
      avutil:                    YES (60.26.101)
      swscale:                   YES (9.5.101)
    GStreamer:                   NO
    v4l/v4l2:                    YES (linux/videodev2.h)
    Orbbec:                      NO

  Parallel framework:            pthreads
"""
"""The wheel opencv-python-headless 5.0.0.93 of PyPI."""
OPENCV_3 = """\
  Video I/O:
    Video for Windows:           YES
    DC1394:                      NO
    FFMPEG:                      YES (prebuilt binaries)
      avcodec:                   YES (ver 57.107.100)
    GStreamer:                   
      base:                      YES (ver 1.0)
      video:                     YES (ver 1.0)
    DirectShow:                  YES

  Parallel framework:            Concurrency
"""  # noqa: W291
"""OpenCV 3.4, which has no word for GStreamer itself: https://github.com/opencv/opencv/issues/13690"""
