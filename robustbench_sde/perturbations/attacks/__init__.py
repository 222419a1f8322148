"""Attacks: each one file, and one line in `registry.ATTACKS`."""
