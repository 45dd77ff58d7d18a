"""Names that come from file systems: what a person sees of them, and which of them can be the names of classes."""

import os
import unicodedata
from collections.abc import Iterable

from kcnn.errors import InputError

# Control characters, parts of characters (what of a file name is not UTF-8), and the separators of lines.
_UNFIT = ("Cc", "Cs", "Zl", "Zp")


def shown(name: str | bytes) -> str:
    r"""A file name in one line that every encoding of Unicode can hold: a\nb for a line break, \xff for a byte that is
    not UTF-8.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNFIT else c for c in text)


def check_classes(names: Iterable[str], where: str) -> None:
    """Raises InputError for a name that no label file, table or picture could show."""
    for name in names:
        if not name or any(unicodedata.category(c) in _UNFIT for c in name):
            raise InputError(
                f"class name '{shown(name)}' in {where}: a name in UTF-8 without line breaks and control "
                "characters is needed; rename it"
            )
