"""The closed lists behind options: enums, so that help lists them, a shell completes them and a typo is refused.

Each class repeats a list of the library, which takes the plain value (`value_of`); a test holds the two together
(``tests/commands/test_choices.py``). Repeating them here keeps ``--help`` from importing the library.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, EnumMeta
from typing import Any, overload

from reid_edge.core.registry import added_names

__all__ = [
    "Allowed",
    "Backend",
    "Calibration",
    "Channels",
    "Choice",
    "FitOn",
    "ForeignFormat",
    "InputFormat",
    "Jetson",
    "Layout",
    "Method",
    "OptimizeFor",
    "Part",
    "Preset",
    "Program",
    "Recipe",
    "Resize",
    "Runtime",
    "Scale",
    "SensitivityBy",
    "TrainPrecision",
    "Unquantized",
    "value_of",
]


class Choice(str, Enum):
    """A word from a closed list; ``str()`` and f-strings give the word itself, also before Python 3.12."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)


_TABLES = {"Layout": "layouts", "Method": "calibration_methods"}
"""The tables that programs and packages add rows to (`reid_edge.core.registry`), by the choice that lists them."""


class _Growing(EnumMeta):
    """The type of a choice that also has the words added to its table, however late they are registered."""

    def __iter__(cls) -> Iterator[Any]:
        yield from super().__iter__()
        yield from map(cls, added_names(_TABLES[cls.__name__]))


class _GrowingChoice(Choice, metaclass=_Growing):
    @classmethod
    def _missing_(cls, value: object) -> _GrowingChoice | None:
        """The choice of an added word. Enum calls this for words that are not its own."""
        if value not in added_names(_TABLES[cls.__name__]):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = str(value)
        return member


class Layout(_GrowingChoice):
    """How a data set lies on disk (`reid_edge.data.readers.registry.READERS`)."""

    MARKET1501 = "market1501"
    DUKEMTMC = "dukemtmc"
    OCCLUDED_DUKE = "occluded-duke"
    CUHK03_LABELED = "cuhk03-labeled"
    CUHK03_DETECTED = "cuhk03-detected"
    CUHK03_CLASSIC_LABELED = "cuhk03-classic-labeled"
    CUHK03_CLASSIC_DETECTED = "cuhk03-classic-detected"
    CUHK01 = "cuhk01"
    VIPER = "viper"
    GRID = "grid"
    LAST = "last"
    MSMT17 = "msmt17"
    MANIFEST = "manifest"
    PERSON_FOLDERS = "person-folders"
    PERSON_FOLDERS_UNSPLIT = "person-folders-unsplit"
    CROPS = "crops"


class Part(Choice):
    """Which part of a data set is scored."""

    TEST = "test"
    VAL = "val"


class Resize(Choice):
    """How crops get to the input size (`reid_edge.data.images.RESIZES`)."""

    OPENCV = "opencv"
    PILLOW_BILINEAR = "pillow-bilinear"
    OPENCV_FAST = "opencv-fast"


class FitOn(Choice):
    """The split that a pair head is fitted on (`reid_edge.training.pairs.report.make_pair_head`)."""

    TRAIN = "train"
    TEST = "test"


class Calibration(Choice):
    """How a pair head's probabilities are calibrated (`reid_edge.training.pairs.calibrate.CALIBRATIONS`)."""

    TEMPERATURE = "temperature"
    ISOTONIC = "isotonic"


class Runtime(Choice):
    """The runtime that an INT8 file is for (`reid_edge.export.int8.plan.RUNTIMES`)."""

    TENSORRT = "tensorrt"
    CPU = "cpu"


class Unquantized(Choice):
    """Precision of the layers that INT8 leaves unquantised (`reid_edge.export.int8.plan.UNQUANTIZED`)."""

    FP16 = "fp16"
    FP32 = "fp32"


class OptimizeFor(Choice):
    """What the graphs of FP16 and INT8 files are optimised for (`reid_edge.export.plan.OPTIMIZE_FOR`)."""

    AUTO = "auto"
    GPU = "gpu"
    GPU_LATENCY = "gpu-latency"
    CPU = "cpu"
    NONE = "none"


class Method(_GrowingChoice):
    """How calibration chooses activation ranges (`reid_edge.export.int8.histogram.METHODS`)."""

    MSE = "mse"
    PERCENTILE = "percentile"
    MINMAX = "minmax"


class SensitivityBy(Choice):
    """What is put into INT8 alone (`reid_edge.export.int8.sensitivity.BY`)."""

    LAYER = "layer"
    BLOCK = "block"


class InputFormat(Choice):
    """What a graph takes (`reid_edge.export.graph.input_format.INPUT_FORMATS`)."""

    NHWC_UINT8 = "nhwc-uint8"
    NCHW_FLOAT = "nchw-float"


class ForeignFormat(Choice):
    """What a foreign graph takes (`reid_edge.export.foreign.preprocessing.FOREIGN_FORMATS`)."""

    NCHW_FLOAT = "nchw-float"


class Channels(Choice):
    """Channel orders of a foreign graph (`reid_edge.export.foreign.preprocessing.CHANNELS`)."""

    RGB = "rgb"
    BGR = "bgr"


class Scale(Choice):
    """The largest pixel of a foreign graph (`reid_edge.export.foreign.preprocessing.SCALES`)."""

    ONE = "1"
    BYTE = "255"


class Preset(Choice):
    """Projects whose files are known (`reid_edge.export.foreign.preprocessing.PRESETS`)."""

    TORCHREID = "torchreid"
    BOXMOT = "boxmot"
    FAST_REID = "fast-reid"
    ULTRALYTICS = "ultralytics"


class Program(Choice):
    """Programs that files are written for (`reid_edge.export.handover.programs.PROGRAMS`)."""

    DEEPSTREAM = "deepstream"
    TRITON = "triton"
    TRTEXEC = "trtexec"


class Backend(Choice):
    """TensorRT's two packages (`reid_edge.engines.tensorrt_api.BACKENDS`)."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Jetson(Choice):
    """Devices with known limits (`reid_edge.export.roofline.devices.DEVICE_NAMES`)."""

    ORIN_NANO = "orin-nano"
    ORIN_NANO_SUPER = "orin-nano-super"
    ORIN_NX = "orin-nx"
    AGX_ORIN = "agx-orin"
    THOR = "thor"


class Recipe(Choice):
    """Settings to begin a training with (`reid_edge.training.recipe.recipes.RECIPES`)."""

    DEFAULT = "default"
    FINETUNE = "finetune"
    DISTILL = "distill"
    QAT = "qat"
    SEED = "seed"


class TrainPrecision(Choice):
    """The precision of a forward pass in training (`reid_edge.training.recipe.config.TRAIN_PRECISIONS`)."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Allowed(Choice):
    """What may differ between compared reports (`reid_edge.benchmarks.compare.matching.ALLOWED`)."""

    MACHINE = "machine"
    DATA = "data"
    MISSING = "missing"


@overload
def value_of(choice: Choice) -> str: ...


@overload
def value_of(choice: None) -> None: ...


@overload
def value_of(choice: Choice | None) -> str | None: ...


def value_of(choice: Choice | None) -> str | None:
    """The plain word of a choice, as the library takes it; None stays None.

    >>> value_of(Layout.MSMT17), value_of(None)
    ('msmt17', None)
    """
    return None if choice is None else str(choice.value)
