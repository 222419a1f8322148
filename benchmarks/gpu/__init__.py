"""What the GPU forward pass costs, and whether it keeps its promises: `python -m benchmarks.gpu`."""
