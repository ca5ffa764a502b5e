"""`python -m einsearch` is `einsearch`."""

from einsearch.cli import main

if __name__ == "__main__":
    main()
