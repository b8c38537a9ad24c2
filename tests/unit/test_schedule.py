"""A timer elapses when the cron line that it was made of would: cronsim and systemd say when that is."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from itertools import islice

import pytest
import schedule
import validators
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.tooling import in_ci, run

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


def field(lowest: int, highest: int) -> st.SearchStrategy[str]:
    """A field of a cron line: numbers, ranges, steps, lists of them."""
    numbers = st.integers(lowest, highest)
    ranges = st.tuples(numbers, numbers).map(lambda pair: f"{min(pair)}-{max(pair)}")
    # cronsim reads 5-5/2 as 5/2, which our validator refuses as a step without a range.
    wider = st.tuples(numbers, numbers).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.builds("{}/{}".format, st.just("*") | wider, st.integers(1, 7))
    items = numbers.map(str) | ranges | steps
    return st.just("*") | st.lists(items, min_size=1, max_size=3).map(",".join)


cron_lines = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)


def elapses(events: list[str], moment: datetime.datetime) -> bool:
    """Whether one of the events is at this minute, by what systemd.time(7) says of the few forms that are used."""

    def has(text: str, number: int) -> bool:
        return text == "*" or f"{number:02d}" in text.split(",")

    for event in events:
        *week, date, time, zone = event.split(" ")
        _, month, day = date.split("-")
        hour, minute, second = time.split(":")
        assert (second, zone) == ("00", "UTC")
        on_day = has(month, moment.month) and has(day, moment.day)
        in_week = not week or WEEKDAYS[moment.weekday()] in week[0].split(",")
        if on_day and in_week and has(hour, moment.hour) and has(minute, moment.minute):
            return True
    return False


def minutes_of(day: datetime.date) -> Iterator[datetime.datetime]:
    """Every minute of a day."""
    begin = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return (begin + datetime.timedelta(minutes=minute) for minute in range(24 * 60))


@settings(max_examples=300 if in_ci() else 60)
@given(cron_lines)
@example("17 2 * * *")
@example("*/30 1-5 * * 1-6")
@example("0 4 13 * 5")  # both restricted: either
@example("0 4 */2 * 5")  # begins with a star: both
@example("0 4 1-7 * */6")
@example("5 5 29 2 0,7")
def test_a_timer_elapses_when_cron_would_run(line: str) -> None:
    assume(validators.problem_with_cron(line) == "")
    events = schedule.systemd_calendar(line)
    runs = list(islice(CronSim(line, BEGIN - datetime.timedelta(minutes=1)), 40))
    assert all(elapses(events, moment) for moment in runs)
    # And at no other minute of the days on which it runs, nor on the days between.
    for day in {moment.date() for moment in runs[:3]} | {(runs[0] + datetime.timedelta(days=1)).date()}:
        found = [moment for moment in minutes_of(day) if elapses(events, moment)]
        begin = datetime.datetime.combine(day, datetime.time(), datetime.UTC) - datetime.timedelta(minutes=1)
        expected = [moment for moment in islice(CronSim(line, begin), 1440) if moment.date() == day]
        assert found == expected


@pytest.mark.parametrize("line", ["17 2 * * *", "*/30 1-5 * * 1-6", "0 4 13 * 5", "0 4 */2 2,3 5", "59 23 28-31 * 0"])
def test_systemd_reads_it_as_it_is_meant(line: str) -> None:
    """What `elapses` takes for the meaning of an event is what systemd does."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here; a server's reads the units in tests/live/test_alarms.py")
    for event in schedule.systemd_calendar(line):
        told = run([analyze, "calendar", "--iterations=5", "--base-time=2026-01-01 00:00:00 UTC", event])
        seen = 0
        for row in told.stdout.splitlines():
            name, _, value = row.partition(": ")
            if name.strip() == "(in UTC)" or (name.strip().startswith(("Next", "Iter")) and value.endswith("UTC")):
                moment = datetime.datetime.strptime(f"{value.strip()} +0000", "%a %Y-%m-%d %H:%M:%S UTC %z")
                assert elapses([event], moment)
                seen += 1
        assert seen >= 5, told.stdout


@given(cron_lines)
@example("17 2 * * *")
@example("* * * * *")
def test_a_drill_is_once_a_week_while_no_backup_begins(line: str) -> None:
    assume(validators.problem_with_cron(line) == "")
    event = schedule.drill_calendar(line)
    moments = [
        moment for day in range(4, 11) for moment in minutes_of(datetime.date(2026, 1, day)) if elapses([event], moment)
    ]
    assert len(moments) == 1
    minute, hour, *_ = line.split(" ")
    if minute != "*":
        assume(len(schedule._numbers(minute, 0, 59)) < 30)
        assert not elapses(schedule.systemd_calendar(f"{minute} {hour} * * *"), moments[0])


def test_the_usual_backup_is_rehearsed_before_the_day_begins() -> None:
    assert schedule.systemd_calendar("17 2 * * *") == ["*-*-* 02:17:00 UTC"]
    assert schedule.drill_calendar("17 2 * * *") == "Sun *-*-* 05:17:00 UTC"
