#!/usr/bin/env bash
# A suite on all GPUs of one machine: Ray is started for the run and stopped after it.
#
#     pip install '.[distributed]'
#     examples/scale/two_gpus.sh cifar10 checkpoints/cifar-*.safetensors
#
# Small networks leave a GPU idle between kernels: TASKS_PER_GPU=2 puts two tasks on each.
# Interrupted by anything, the same command goes on where it stopped.
set -euo pipefail

tasks=${TASKS_PER_GPU:-1}
share=$(awk "BEGIN { print 1 / $tasks }")
cores=$(($(nproc) / (tasks * $(nvidia-smi --list-gpus | wc -l))))

exec sde-bench run "$@" --engine ray --device cuda --gpus-per-task "$share" --cpus-per-task "$((cores > 0 ? cores : 1))"
