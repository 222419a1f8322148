"""Name the choices that have a fixed set of words; without imports, so that --help can show them at once."""

from typing import Literal

#: norm of a perturbation
NormName = Literal["linf", "l2"]
#: how the score draws of an image become one class
DecisionRule = Literal["mean-prob", "vote", "single"]
#: number format. `fp32`: single precision throughout. `tf32`: convolutions and linear maps with 10 bits of
#: mantissa on NVIDIA GPUs, fp32 elsewhere. `bf16`: these in bfloat16 (autocast), 7 bits; states stay in fp32
Precision = Literal["fp32", "tf32", "bf16"]
#: generator of the noise, with the same random bits. `host`: numpy. `device`: a Triton kernel on CUDA, torch
#: operations elsewhere. `torch`: the latter everywhere. `auto`: the kernel if there is one, or else the host
NoiseBackend = Literal["auto", "host", "device", "torch"]
#: file format of perturbed images
ImageFormat = Literal["npz", "safetensors"]
#: place where the cells of a suite are computed
EngineName = Literal["local", "ray"]
#: learning rate over time
Schedule = Literal["one-cycle", "step"]
#: kind of robust training: `pgd` (Madry et al. 2018), `trades` (Zhang et al. 2019)
Adversarial = Literal["none", "pgd", "trades"]
#: entries of a state that share one Brownian motion: none, those of a channel, all
NoiseShape = Literal["independent", "channel", "scalar"]
#: parameters of the severities of corruptions
FamilyName = Literal["cifar", "tiny-imagenet", "imagenet"]
#: filter that computes pixels of another size
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"]
#: how commands print tables
TableFormat = Literal["table", "json", "csv", "md"]
