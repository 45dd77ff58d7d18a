"""Numbers and tables as the commands print them."""

import html
from collections.abc import Sequence

# Heads of columns of text.
WORDS = {"name", "family", "network", "stage", "layer", "kind", "output", "space", "status", "where", "has"}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: text to the left, numbers to the right; as wide as it needs where nobody looks at a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(width=10 * sum(len(head) for head in heads), markup=False, emoji=False)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        drawn.add_column(head, justify="left" if head in WORDS else "right", no_wrap=not console.is_terminal)
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)


def as_html(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as a notebook shows it."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><caption>{html.escape(title)}</caption>{line('th', heads)}{body}</table>"


def short(value: float, unit: str = "") -> str:
    """A number with three digits: 1234567 -> "1.23 M"; with the unit B "1.23 MB"."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()
