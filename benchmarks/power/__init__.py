"""Energy and clocks while something is measured: NVIDIA's counter, a Jetson's rails, RAPL."""
