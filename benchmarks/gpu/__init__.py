"""What a GPU makes of the sampling loop: `python -m benchmarks.gpu` checks, times and writes benchmarks/gpu.md."""
