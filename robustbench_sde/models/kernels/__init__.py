"""Triton kernels of layers. Import these modules only where Triton is: `sde.keyed.has_kernels`."""
