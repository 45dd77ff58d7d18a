"""`kcnn` and `python -m kcnn`."""

import sys

from kcnn.terminal import cli


def main() -> None:
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
