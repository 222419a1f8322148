"""Train a classifier: configuration, schedules, augmentation, the loop."""
