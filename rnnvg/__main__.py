"""`python -m rnnvg` is `rnnvg`."""

from rnnvg.cli import main

if __name__ == "__main__":
    main(prog_name="rnnvg")
