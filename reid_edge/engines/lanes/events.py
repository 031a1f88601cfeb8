"""How long the copies and the kernels of a lane's run took, by CUDA events on its stream."""

from __future__ import annotations

from contextlib import ExitStack

from .contract import Device

__all__ = ["LaneTimer"]

_INTERVALS = ("host_to_device", "compute", "device_to_host")


class LaneTimer:
    """Four events around the three parts of a run; ``stack`` destroys them.

    The stream is empty when a run begins, so that the first event passes at once: "host_to_device" holds the copy into
    page-locked memory as well as the one to the GPU. "compute" is all kernels, "device_to_host" the copy back.
    """

    def __init__(self, device: Device, stream: int, stack: ExitStack) -> None:
        self._device, self._stream = device, stream
        self._events: list[int] = []
        for _ in range(len(_INTERVALS) + 1):
            self._events.append(device.open_event())
            stack.callback(device.close_event, self._events[-1])

    def mark(self, moment: int) -> None:
        """Queue the event of a moment: 0 before the copies, 1 and 2 around the kernels, 3 after the copy back."""
        self._device.record(self._events[moment], self._stream)

    def times_ms(self) -> dict[str, float]:
        """Milliseconds of each part, once the stream is synchronised."""
        pairs = zip(self._events, self._events[1:], strict=False)
        return {name: self._device.elapsed_ms(*pair) for name, pair in zip(_INTERVALS, pairs, strict=True)}
