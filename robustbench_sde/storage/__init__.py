"""What is kept: table schemas, the run folder, provenance. Knows no models and no images."""
