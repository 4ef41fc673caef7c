import string
text = "The quick brown fox jumps over the lazy dog. Ünïcödé: naïve café, ﬁne, ẞ, İ, 漢字, 🦀!"
print(text.upper(), text.lower(), text.casefold(), text.title(), text.swapcase(), sep="\n")
print(len(text), len(text.encode()), text.encode("utf-16-le")[:10], ascii(text[45:60]))
print(text.split(), text.partition(":"), text.rsplit(maxsplit=2), sep="\n")
print(f"{3.14159:10.3f}|{42:08b}|{255:#x}|{1234567.891:,.2f}|{'a':^9}|{-5:+d}|{0.000123:e}|{True!r:>6}")
print("%5d|%-8s|%06.2f|%x|%%" % (42, "ab", 3.14159, 255), "{0:{1}}|{name!r}".format("x", 5, name="é"))
print(string.Template("$a and ${b}").substitute(a=1, b=2), "a,b;c".translate(str.maketrans({",": None, ";": "-"})))
print(repr("tab\t nl\n quote' both'\" nul\0 bell\a é \x7f \u200b"))
print("-".join(sorted(set("mississippi"))), "abc" * 3, "hello"[::-1], "x".zfill(5), "a\tb".expandtabs(4))
print([c for c in "aé漢🦀" if c.isalpha()], "Ⅷ".isnumeric(), "²".isdigit(), "٣".isdecimal(), int("٣"))
