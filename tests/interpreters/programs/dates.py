from datetime import date, datetime, time, timedelta, timezone
import calendar
start = datetime(2024, 2, 28, 23, 30, tzinfo=timezone.utc)
for days in (1, 2, 366, -60):
    print((start + timedelta(days=days, hours=1)).isoformat())
print(datetime(2024, 12, 31).isocalendar(), date(2023, 1, 1).isocalendar(), date.fromordinal(738000))
print(start.astimezone(timezone(timedelta(hours=5, minutes=30))), start.timestamp(), start.strftime("%a %d %b %Y %j %U %H:%M:%S %Z%z"))
print(datetime.strptime("03/Feb/2021 04:05:06 +0200", "%d/%b/%Y %H:%M:%S %z"), datetime.fromisoformat("2020-02-29T12:00:00.123456"))
print(timedelta(days=-1, seconds=5), divmod(timedelta(hours=25), timedelta(minutes=7)), timedelta(1) / 7)
print(calendar.monthrange(2100, 2)[1], calendar.isleap(2000), calendar.month(2024, 2))
print([d for d in calendar.Calendar().itermonthdates(2023, 5)][:3], sorted([time(5), time(4, 59, 59)]))
for bad in ((2023, 2, 29), (0, 1, 1), (2023, 13, 1)):
    try:
        date(*bad)
    except ValueError as problem:
        print(type(problem).__name__)
