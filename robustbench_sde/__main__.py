"""Run `sde-bench` as `python -m robustbench_sde`."""

import sys


def main() -> None:
    """Run the program; Ctrl-C while it is still being imported is no traceback."""
    try:
        from robustbench_sde.cli.app import main as program
    except KeyboardInterrupt:
        exec("")  # `python -m` ends by SIGINT after one that came through executed text; forget that
        print("sde-bench: interrupted before it had begun; give the command again", file=sys.stderr)
        raise SystemExit(130) from None
    program()


if __name__ == "__main__":
    main()
