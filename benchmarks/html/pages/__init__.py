"""Whole pages: of a benchmark, an evaluation, a training, an ablation and a reproduction."""
