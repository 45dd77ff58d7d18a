"""`python -m kcnn` and `kcnn`: lists the commands and runs them."""

import importlib
import sys

COMMANDS = {
    "train": "kcnn.train",
    "evaluate": "kcnn.evaluate",
    "predict": "kcnn.predict",
    "export": "kcnn.export",
    "info": "kcnn.info",
    "budget": "kcnn.budget",
}


def summary(command: str) -> str:
    return (importlib.import_module(COMMANDS[command]).__doc__ or "").splitlines()[0]


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        importlib.import_module(COMMANDS[argv[0]]).main(argv[1:])
    if argv and argv[0] not in ("-h", "--help"):
        from kcnn.cli import fail

        sys.exit(fail("kcnn", f"unknown command {argv[0]!r}: one of {', '.join(COMMANDS)} is needed"))
    print(
        "usage: kcnn COMMAND [--help] ...\n\nConvolutional networks: chosen, scaled, trained, understood and served.\n"
    )
    for command in COMMANDS:
        print(f"  {command:<10}{summary(command)}")


if __name__ == "__main__":
    main()
