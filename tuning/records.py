"""The files of a search's folder: every name stays inside it, and what is read was checked.

A folder may come from a stranger, and a file may have been cut off or edited. Nothing in it is believed before it was
looked at, and what is wrong with it is told in one line that names the file.
"""

import re
from pathlib import Path

from kcnn.errors import InputError

MOST_BYTES = 2**28  # of a file; the largest sweeps need some megabytes
MOST_WHOLE = 2**63
PLAIN = re.compile(r"\w[\w.+-]{0,199}")  # a name of one file, which cannot lead anywhere else
WORDS = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false", type(None): "nothing"}


def inside(folder: Path, *names: str) -> Path:
    """folder/name/..., for names that were read from a file and places that are about to be written.

    Raises InputError for a name that could lead out of the folder, and where a symbolic link does.
    """
    path = folder
    for name in names:
        if not PLAIN.fullmatch(name.removeprefix(".")):
            raise InputError(f"{folder} names {name!r}: a plain name of a file is needed, which leads nowhere else")
        path /= name
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link: nothing is written through it, so put a folder in its place")
    return path
