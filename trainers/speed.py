"""Images a second."""


class Speed:
    """Images a second: of late, and over all calls but the first, which compiles."""

    def __init__(self, batch: int):
        self.batch = batch
        self.calls: list[tuple[int, float]] = []

    def add(self, steps: int, seconds: float) -> None:
        self.calls.append((steps, seconds))

    def steps_within(self, seconds: float) -> int:
        """At the speed of late; at least one, and a few as long as only the compiling call is known."""
        return max(1, int(seconds * self.recent / self.batch)) if len(self.calls) > 1 else 10

    @property
    def recent(self) -> float:
        return self.rate(self.calls[-1:])

    @property
    def overall(self) -> float:
        return self.rate(self.calls[1:] or self.calls)

    def rate(self, calls: list[tuple[int, float]]) -> float:
        return self.batch * sum(n for n, _ in calls) / max(1e-9, sum(s for _, s in calls))
