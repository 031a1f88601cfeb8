"""Exact rewrites of ResNet50 and MobileNetV3 that were tried for fewer GPU kernels, and what a builder made of them."""
