"""Benchmarks: latency beside accuracy, torch-free. Installed as reid_edge.benchmarks."""
