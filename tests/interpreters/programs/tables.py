import csv, io, sys
rows = [["name", "quote", "n"], ["Ann", 'says "hi", twice', 1], ["Bob\nSmith", "", -2.5], ["é;漢", None, "x,y"]]
for options in ({}, {"delimiter": ";", "quoting": csv.QUOTE_ALL}, {"delimiter": "\t", "lineterminator": "\n"}, {"quoting": csv.QUOTE_NONE, "escapechar": "\\"}):
    text = io.StringIO()
    csv.writer(text, **options).writerows(rows)
    print(repr(text.getvalue()))
    back = list(csv.reader(io.StringIO(text.getvalue(), newline=""), **{k: v for k, v in options.items() if k != "lineterminator"}))
    print(back)
with open("data.csv", "w", newline="", encoding="utf-8") as f:
    writer = csv.DictWriter(f, ["a", "b"], extrasaction="ignore", restval="-")
    writer.writeheader()
    writer.writerows([{"a": 1, "b": 2, "c": 3}, {"a": "x"}])
with open("data.csv", newline="") as f:
    print(list(csv.DictReader(f)))
print(csv.Sniffer().sniff("a;b;c\n1;2;3\n").delimiter, csv.Sniffer().has_header("name,age\nann,5\nbob,6\n"))
csv.writer(sys.stdout).writerow(["é", 1.0, True])
