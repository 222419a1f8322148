"""What the package can do, in a dozen functions; the command line has no other way in.

`robustbench_sde` has them all; here are the types that they take and return.
"""
