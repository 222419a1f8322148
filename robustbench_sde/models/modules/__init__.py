"""Anybody's nn.Module as a classifier, and a classifier as an nn.Module."""
