"""Runs on a Ray cluster: how cells are cut into shards and sent to workers."""
