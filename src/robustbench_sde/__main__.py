"""`python -m robustbench_sde` is `sde-bench`."""

from robustbench_sde.cli.app import main

if __name__ == "__main__":
    main()
