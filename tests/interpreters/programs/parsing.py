import re
TOKEN = re.compile(r"\s*(?:(\d+\.?\d*)|(.))")
def tokens(text):
    for number, sign in TOKEN.findall(text):
        yield ("n", float(number)) if number else ("s", sign)
    yield ("e", None)
class Parser:
    def __init__(self, text):
        self.all = tokens(text)
        self.next = next(self.all)
    def take(self):
        taken, self.next = self.next, next(self.all, ("e", None))
        return taken
    def level(self, power=0):
        powers = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 3}
        kind, value = self.take()
        if kind == "n": left = value
        elif value == "(":
            left = self.level()
            assert self.take()[1] == ")"
        elif value == "-": left = -self.level(2)
        else: raise SyntaxError(f"unexpected {value!r}")
        while self.next[1] in powers and powers[self.next[1]] > power:
            sign = self.take()[1]
            right = self.level(powers[sign] - (sign == "^"))
            left = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__,
                    "^": left.__pow__}[sign](right)
        return left
for text in ("1+2*3", "(1+2)*3", "2^3^2", "-4/2 - 1", "1.5*(2+-3)", "2*(3", "*1"):
    try:
        print(text, "=", Parser(text).level())
    except (SyntaxError, AssertionError, ZeroDivisionError) as problem:
        print(text, type(problem).__name__, problem)
