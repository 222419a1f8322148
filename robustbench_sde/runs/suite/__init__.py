"""The language of suite files: what a YAML file may say, and the cells that it stands for."""
