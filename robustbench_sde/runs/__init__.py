"""Cells, and engines that run them into a run folder."""
