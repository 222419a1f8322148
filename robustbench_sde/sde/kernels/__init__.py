"""Triton kernels of noise. Import these modules only where Triton is: `keyed.has_kernels`."""
