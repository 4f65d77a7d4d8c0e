"""Autotuning for fused Triton kernels: tune once, serve the verified best configuration."""
