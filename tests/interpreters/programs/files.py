import glob, os, pathlib, pickle, shelve, shutil, tempfile
p = pathlib.Path("d/e/f"); p.mkdir(parents=True)
(p / "a.txt").write_text("first\nsecond\r\nthird é", encoding="utf-8", newline="")
(p / "b.bin").write_bytes(bytes(range(10)))
with open(p / "a.txt", encoding="utf-8") as f: print([line for line in f], f.newlines)
with open(p / "a.txt", "rb") as f: print(f.seek(-3, 2), f.read(), f.tell(), f.seek(6), f.readline())
with open("log", "a+") as f:
    f.write("one\n"); f.write("two\n"); f.seek(0); print(f.read().split(), f.truncate(4))
with open("log", "r+b") as f: f.seek(1); f.write(b"X"); f.seek(0); print(f.read(), os.fstat(f.fileno()).st_size)
print(sorted(str(x) for x in pathlib.Path("d").rglob("*")), sorted(glob.glob("**/*.txt", recursive=True)), p.joinpath("a.txt").stem, pathlib.PurePosixPath("/a/../b").parts)
shutil.copytree("d", "g"); shutil.move("g/e", "h"); print(sorted(os.listdir("h/f")), os.path.exists("g/e"), sorted(os.listdir(".")))
os.rename("h/f/b.bin", "b2"); os.replace("b2", "log"); print(open("log", "rb").read(), os.path.getsize("log"))
print([(r, sorted(ds), sorted(fs)) for r, ds, fs in sorted(os.walk("h"))], os.path.relpath("/a/b", "/a/c/d"), os.path.splitext("x.tar.gz"), os.path.normpath("a//b/../c/."))
shutil.rmtree("h"); print(os.path.isdir("h"))
with tempfile.TemporaryDirectory() as t:
    with tempfile.NamedTemporaryFile(dir=t, mode="w+", suffix=".x") as f: f.write("t"); f.flush(); print(os.path.getsize(f.name), f.name.endswith(".x"))
print(os.path.exists(t))
class Thing:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
data = {"t": Thing([1, 2]), "s": {1, 2}, "c": 1j, "n": None, "b": b"x" * 100_000}
with open("p", "wb") as f: pickle.dump(data, f)
with open("p", "rb") as f: print(pickle.load(f) == data, os.path.getsize("p") > 100_000)
for go in (lambda: open("none"), lambda: os.mkdir("d"), lambda: os.rmdir("d"), lambda: open("d", "w"), lambda: os.listdir("log")):
    try: go()
    except OSError as problem: print(type(problem).__name__)
