"""Training: configuration, schedules, augmentation, the loop."""
