"""The public functions of `robustbench_sde`, a file for each kind; the command line has no other way in."""
