"""Stability: what a flow does to small changes of its start, beside what theory predicts."""
