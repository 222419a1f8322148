"""Define the commands: each parses its options, calls a function of the API and prints the result."""
