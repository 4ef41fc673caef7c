import re
log = """2024-01-15 10:23:45 ERROR [db] timeout after 30s id=17
2024-01-15 10:24:01 INFO [web] GET /a?b=c 200
2024-02-30 25:61:00 WARN [x] strange"""
pattern = re.compile(r"(?P<date>\d{4}-\d\d-\d\d) (?P<time>[\d:]+) (?P<level>[A-Z]+) \[(?P<where>\w+)\] (?P<rest>.*)")
for match in pattern.finditer(log):
    print(match.groupdict(), match.span("rest"))
print(re.sub(r"(\w+)@(\w+)\.com", r"\2 at \1", "joe@example.com, ann@test.com"))
print(re.sub(r"\d+", lambda m: str(int(m[0]) ** 2), "a1b22c333"), re.split(r"[,;]\s*", "a, b;c,d"))
print(re.findall(r"(?<=\$)\d+(?!\d|\.)", "$5 $10.50 $300"), re.fullmatch(r"(?i)hello", "HeLLo"))
print(re.match(r"(a)?(b)?(c)?", "ac").groups("-"), re.search(r"(?s)<(.+?)>", "x<a\nb>y")[1])
print(re.findall(r"\b\w{5}\b", "three words fours alone é漢字ab"), re.escape("a.b*c[d]"))
print(re.compile(r"""(?x) (\d+) \s* ( km | m )  # a distance""").findall("5 km, 30m, 7 s"))
try:
    re.compile("(a")
except re.error as problem:
    print(problem.msg, problem.pos)
