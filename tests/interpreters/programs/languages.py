import argparse, enum, io, keyword, logging, sys, time, tokenize, unittest, queue, threading, graphlib, secrets, calendar, zoneinfo, array
parser = argparse.ArgumentParser(prog="p"); parser.add_argument("n", type=int); parser.add_argument("--flag", action="store_true"); parser.add_argument("-o", default="x", choices=["x", "y"])
print(parser.parse_args(["5", "--flag", "-o", "y"]))
log = logging.getLogger("t"); stream = io.StringIO(); handler = logging.StreamHandler(stream); handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s")); log.addHandler(handler); log.setLevel("INFO"); log.propagate = False
log.info("a %s", 1); log.debug("no"); 
try: 1 / 0
except ZeroDivisionError: log.error("bad", exc_info=False)
print(stream.getvalue().split())
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(1 + 1, 2)
    def test_b(self):
        with self.assertRaises(ValueError): int("x")
    def test_c(self): self.assertTrue(False)
result = unittest.TestResult(); unittest.defaultTestLoader.loadTestsFromTestCase(T).run(result)
print(result.testsRun, len(result.failures), len(result.errors))
print([t.string for t in tokenize.generate_tokens(io.StringIO("x = f(1, 'a')  # c\n").readline) if t.string.strip()], keyword.iskeyword("async"))
print(list(graphlib.TopologicalSorter({"d": {"b", "c"}, "b": {"a"}, "c": {"a"}}).static_order())[0], len(secrets.token_hex(8)), time.gmtime(0)[:6], time.strftime("%Y", time.gmtime(1e9)))
q = queue.PriorityQueue(); [q.put(x) for x in (3, 1, 2)]; print([q.get() for _ in range(3)], array.array("h", [1, -2]).tobytes(), threading.Lock().acquire(blocking=False))
local = threading.local(); local.x = 1; print(local.x, threading.current_thread().name, sys.maxsize > 2 ** 30, sys.byteorder, sys.getsizeof(1) > 0, memoryview(b"abc")[1:].tobytes())
b = bytearray(b"hello"); b[1:3] = b"EY"; print(b, b.find(b"l"), bytes.fromhex("00 ff"), b"a,b".split(b","), b"%d-%s" % (5, b"x"), "é".encode("latin-1"), b"\xe9".decode("latin-1"), b"\xff".decode("utf-8", "backslashreplace"))
