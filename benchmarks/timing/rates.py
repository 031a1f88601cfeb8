"""What this machine can do at most, measured: matrix products by type, and copies. The roofline's two limits.

A matrix product of two large squares is the most arithmetic that a library gets out of a processor; a copy of arrays
larger than any cache the most bytes. ONNX Runtime's MatMul is timed beside numpy's, since it is what runs the models,
and the better one counts. A type that nothing here multiplies has no rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.ort import import_onnxruntime, session_options
from reid_edge.errors import DeviceError, MissingExtraError

__all__ = ["copy_gb_per_s", "matmul_model", "matmul_rates", "measure_rates", "sgemm_gflops"]

_SIZE = 1024
_GPU_SIZE = 8192
_COPY_BYTES = 64 << 20

_FLOAT, _UINT8, _INT8, _INT32, _FLOAT16 = 1, 2, 3, 6, 10
"""TensorProto.DataType of onnx.proto."""

_TYPES: dict[str, tuple[str, int, int, int]] = {
    "fp32": ("MatMul", _FLOAT, _FLOAT, _FLOAT),
    "fp16": ("MatMul", _FLOAT16, _FLOAT16, _FLOAT16),
    "int8": ("MatMulInteger", _UINT8, _INT8, _INT32),
}
"""The operator, and the types of its left side, its right side and its result."""

_NUMPY = {_FLOAT: np.float32, _FLOAT16: np.float16, _UINT8: np.uint8, _INT8: np.int8}


def measure_rates(threads: int | None = None, seconds: float = 0.3, bf16: bool = False) -> dict[str, float]:
    """Billions of operations a second by type ("fp32", "int8", on a GPU "gpu_fp32", ...), and copies in GB/s.

    A multiply-add is two operations. "sgemm" is numpy's matrix product in FP32, whose BLAS has the threads of its
    environment; ``threads`` are ONNX Runtime's (None: all usable cores). With ``bf16`` OpenVINO's is timed too. "copy"
    counts each byte twice, read and written; "gpu_h2d" and "gpu_d2h" are copies of page-locked memory. FP16 is not
    timed on the CPU: ONNX Runtime computes it in FP32 there.
    """
    rates = {"sgemm": sgemm_gflops(seconds), "copy": copy_gb_per_s(seconds)}
    rates |= matmul_rates(("fp32", "int8"), "CPUExecutionProvider", threads, seconds)
    if bf16:
        rates |= _bf16_rate(threads, seconds)
    rates |= {
        f"gpu_{name}": rate
        for name, rate in matmul_rates(tuple(_TYPES), "CUDAExecutionProvider", None, seconds).items()
    }
    return rates | _gpu_copies(seconds)


def sgemm_gflops(seconds: float = 0.3, size: int = _SIZE) -> float:
    """The best rate of a float32 matrix product in this process's BLAS, in GFLOP/s.

    The BLAS's threads are fixed when numpy is imported, by OPENBLAS_NUM_THREADS and the like.
    """
    left, right = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    out = left @ right
    return 2 * size**3 / _best(lambda: np.matmul(left, right, out=out), seconds) / 1e9


def copy_gb_per_s(seconds: float = 0.3, size: int = _COPY_BYTES) -> float:
    """The best rate of a copy between two arrays of ``size`` bytes, in GB/s, read and written bytes together."""
    source = np.ones(size, np.uint8)
    target = np.empty_like(source)
    return 2 * size / _best(lambda: np.copyto(target, source), seconds) / 1e9


def matmul_rates(
    types: tuple[str, ...], provider: str, threads: int | None = None, seconds: float = 0.3
) -> dict[str, float]:
    """The best rates of ONNX Runtime's matrix products on ``provider``, by type; without those that it does not run."""
    try:
        runtime = import_onnxruntime()
    except MissingExtraError:
        return {}
    if provider not in runtime.get_available_providers():
        return {}
    size = _SIZE if provider == "CPUExecutionProvider" else _GPU_SIZE
    found = {}
    for name in types:
        try:
            found[name] = 2 * size**3 / _session_seconds(runtime, name, provider, size, threads, seconds) / 1e9
        except Exception as error:  # ONNX Runtime's own classes share no public base
            del error
    return found


def matmul_model(name: str, size: int) -> bytes:
    """An ONNX file: y [size, size] = a times b, in a type of "fp32", "fp16" and "int8", with both as inputs."""
    operator, left, right, out = _TYPES[name]
    values = b"".join(
        [
            _field(11, _value(b"a", left, size)),
            _field(11, _value(b"b", right, size)),
            _field(12, _value(b"y", out, size)),
        ]
    )
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"y") + _field(4, operator.encode())
    graph = _field(1, node) + _field(2, b"g") + values
    return b"\x08\x08" + _field(7, graph) + _field(8, b"\x10\x0d")  # IR version 8, opset 13


def _value(name: bytes, kind: int, size: int) -> bytes:
    """A ValueInfoProto of a square matrix (onnx.proto)."""
    dimension = _field(1, b"\x08" + _varint(size))
    tensor = b"\x08" + _varint(kind) + _field(2, dimension + dimension)
    return _field(1, name) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _operands(name: str, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    _, left, right, _ = _TYPES[name]
    drawn = np.random.default_rng(0).integers(1, 100, (2, size, size))
    return drawn[0].astype(_NUMPY[left]), drawn[1].astype(_NUMPY[right])


def _session_seconds(runtime: Any, name: str, provider: str, size: int, threads: int | None, seconds: float) -> float:
    """The shortest time of one product; on a GPU with operands and result in its memory."""
    session = runtime.InferenceSession(matmul_model(name, size), session_options(threads), providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} does not run {name}")
    place = "cpu" if provider == "CPUExecutionProvider" else "cuda"
    binding = session.io_binding()
    held = [runtime.OrtValue.ortvalue_from_numpy(each, place, 0) for each in _operands(name, size)]
    for letter, value in zip("ab", held, strict=True):
        binding.bind_ortvalue_input(letter, value)
    binding.bind_output("y", place)

    def once() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return _best(once, seconds)


def _bf16_rate(threads: int | None, seconds: float) -> dict[str, float]:
    """OpenVINO's product with its precision hint; nothing where it is missing, or the CPU has no bf16."""
    try:
        import openvino
    except ImportError:
        return {}
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return {}
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16"} | (
        {"INFERENCE_NUM_THREADS": threads} if threads else {}
    )
    request = core.compile_model(core.read_model(matmul_model("fp32", _SIZE)), "CPU", options).create_infer_request()
    given = dict(zip("ab", _operands("fp32", _SIZE), strict=True))
    return {"bf16": 2 * _SIZE**3 / _best(lambda: request.infer(given, share_inputs=True), seconds) / 1e9}


def _gpu_copies(seconds: float) -> dict[str, float]:
    """Page-locked memory to the GPU and back, in GB/s; nothing without a GPU, or where it shares the CPU's memory."""
    from reid_edge.engines.cuda import open_cuda

    try:
        device = open_cuda()
    except (DeviceError, MissingExtraError):
        return {}
    try:
        if device.integrated:
            return {}
        memory, address = device.allocate_host(_COPY_BYTES), device.allocate(_COPY_BYTES)

        def timed(copy: Callable[[], None]) -> float:
            def once() -> None:
                copy()
                device.synchronize()

            return _COPY_BYTES / _best(once, seconds) / 1e9

        array = memory.array[:_COPY_BYTES]
        rates = {
            "gpu_h2d": timed(lambda: device.upload(address, array)),
            "gpu_d2h": timed(lambda: device.download(array, address)),
        }
        device.free(address)
        device.free_host(memory)
        return rates
    except DeviceError:
        return {}
    finally:
        device.close()


def _best(run: Callable[[], Any], seconds: float) -> float:
    """The shortest of all runs that fit into ``seconds``, in seconds, after one that starts threads."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return best
