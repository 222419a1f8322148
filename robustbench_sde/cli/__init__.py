"""Commands: parse, call, show. No logic."""
