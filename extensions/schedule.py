"""Filters that turn an accepted cron line into calendar events of systemd (systemd.time(7)), in UTC."""

from __future__ import annotations

from itertools import pairwise

from jinja2 import Environment
from jinja2.ext import Extension

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = 24 * 60


def _numbers(text: str, lowest: int, highest: int) -> set[int]:
    """Return what a field of a cron line stands for."""
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        first = lowest if span == "*" else int(low)
        last = highest if span == "*" else int(high or low)
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _event_part(numbers: set[int], lowest: int, highest: int) -> str:
    """Write numbers as systemd does: all of them as `*`, the others as a list."""
    if numbers.issuperset(range(lowest, highest + 1)):
        return "*"
    return ",".join(f"{number:02d}" for number in sorted(numbers))


def systemd_calendar(cron: str) -> list[str]:
    """Return the calendar events that together come round when the cron line does.

    Cron needs the day of the month or that of the week where both are restricted, systemd needs both: then there are
    two events. A field that begins with `*` does not count as restricted, whatever its step is (crontab(5)).
    """
    fields = cron.split(" ")
    minutes, hours, days, months, weekdays = (
        _numbers(text, *bounds) for text, bounds in zip(fields, _RANGES, strict=True)
    )
    month, day = _event_part(months, 1, 12), _event_part(days, 1, 31)
    named = {(number - 1) % 7 for number in weekdays}  # Sunday is 0 and 7
    week = "" if len(named) == 7 else ",".join(_WEEKDAYS[number] for number in sorted(named)) + " "
    time = f"{_event_part(hours, 0, 23)}:{_event_part(minutes, 0, 59)}:00 UTC"
    if fields[2].startswith("*") or fields[4].startswith("*"):
        return [f"{week}*-{month}-{day} {time}"]
    return [f"*-{month}-{day} {time}", f"{week}*-{month}-* {time}"]


def drill_calendar(cron: str) -> str:
    """Return a weekly event for the restore drill: three hours after a backup, or halfway to the next."""
    minutes, hours = (_numbers(text, *bounds) for text, bounds in zip(cron.split(" ")[:2], _RANGES[:2], strict=True))
    starts = sorted(hour * 60 + minute for hour in hours for minute in minutes)
    gap, begin = max((after - before, before) for before, after in pairwise([*starts, starts[0] + _DAY]))
    hour, minute = divmod((begin + min(180, gap // 2)) % _DAY, 60)
    return f"Sun *-*-* {hour:02d}:{minute:02d}:00 UTC"


class Schedule(Extension):
    """Registers the filters of this module under their own names."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        for function in (systemd_calendar, drill_calendar):
            environment.filters[function.__name__] = function
