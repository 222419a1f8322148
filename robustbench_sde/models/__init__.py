"""Networks: drift, classifier, presets, checkpoints."""
