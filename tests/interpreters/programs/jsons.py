import json
from datetime import date
data = {"s": "é漢🦀\n\"\\\u2028", "n": [0, -1, 1.5, 1e100, 2 ** 70, True, None], "o": {"b": 1, "a": {}}, "e": [], "1": 2}
text = json.dumps(data)
print(text, json.loads(text) == data, json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":")), sep="\n")
print(json.dumps(data, indent=2), json.dumps({1: 2, None: 3, True: 4, 1.5: 5}), json.dumps([float("inf"), float("nan")]))
print(json.loads('[1.0, 1E5, -0, 123456789012345678901234567890, "\\ud83e\\udd80", "\\u0000"]'))
print(json.loads('{"a": 1, "a": 2}', object_pairs_hook=list), json.loads("1.10", parse_float=str))
for bad in ("", "{", "{'a': 1}", "nul", '"\n"', "[1] x", '{"a" 1}', "01"):
    try:
        print(json.loads(bad))
    except json.JSONDecodeError as problem:
        print(repr(bad), problem.pos, problem.lineno, problem.colno)
class Encoder(json.JSONEncoder):
    def default(self, o):
        return o.isoformat() if isinstance(o, date) else sorted(o) if isinstance(o, set) else super().default(o)
print(json.dumps({"d": date(2020, 1, 2), "s": {3, 1, 2}}, cls=Encoder))
