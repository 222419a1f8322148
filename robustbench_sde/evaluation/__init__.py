"""Scoring, statistics and cells: the only place that says whether an image fools a model."""
