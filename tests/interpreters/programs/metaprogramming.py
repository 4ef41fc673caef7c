import ast, contextlib, functools, inspect, operator, types, weakref, gc, copy, io, sys, warnings
def logged(f):
    @functools.wraps(f)
    def inner(*a, **k):
        print("call", f.__name__, a, k); return f(*a, **k)
    return inner
@logged
def add(a, b=2, *c, d, **e): "adds"; return a + b
print(add(1, d=3), inspect.signature(add), add.__doc__)
class Meta(type):
    def __new__(m, name, bases, body, **k): body["made"] = sorted(x for x in body if not x.startswith("_")); return super().__new__(m, name, bases, body)
class Typed:
    def __set_name__(self, owner, name): self.name = "_" + name
    def __get__(self, o, t=None): return self if o is None else getattr(o, self.name, 0)
    def __set__(self, o, v):
        if not isinstance(v, int): raise TypeError(f"{self.name[1:]} wants an int")
        setattr(o, self.name, v)
class A(metaclass=Meta):
    n = Typed()
    def f(self): pass
    def __init_subclass__(cls, **k): cls.sub = k
class B(A, extra=1): pass
a = A(); a.n = 5
print(A.made, B.sub, a.n)
try: a.n = "x"
except TypeError as problem: print(problem)
@contextlib.contextmanager
def manager(name):
    print("in", name)
    try: yield name
    except KeyError: print("swallowed")
    finally: print("out", name)
with manager("a"), manager("b") as b: raise KeyError(b)
with contextlib.ExitStack() as stack, contextlib.redirect_stdout(io.StringIO()) as out:
    stack.callback(print, "last"); print("hidden")
print(repr(out.getvalue()))
print(ast.unparse(ast.parse("x=(1+2)*y if z else [a for a in b]")), ast.literal_eval("{'a': (1, 2.5, None)}"))
space = {}; exec("def g(x):\n  return x * k\nk = 3", space); print(space["g"](5), eval("a.n + 1"), compile("1+1", "", "eval").co_consts is not None)
class Node: pass
x = Node(); x.me = x; ref = weakref.ref(x); del x; gc.collect(); print(ref())
d = copy.deepcopy({"a": [1, {"b": 2}]}); d["a"][1]["b"] = 3; print(d, types.SimpleNamespace(a=1), operator.attrgetter("n")(a))
@functools.singledispatch
def show(x): return "thing"
@show.register
def _(x: int): return "int"
print(show(1), show("a"), functools.partial(pow, 2)(5), functools.lru_cache(lambda x: x)(3))
with warnings.catch_warnings(record=True) as seen: warnings.simplefilter("always"); warnings.warn("careful", DeprecationWarning)
print(seen[0].category.__name__, seen[0].message)
def closure():
    n = 0
    def up():
        nonlocal n; n += 1; return n
    return up
c = closure(); print(c(), c(), c.__closure__[0].cell_contents, (lambda *a, k=1, **m: (a, k, m))(1, 2, k=3, z=4))
try:
    try: 1 / 0
    except ZeroDivisionError as e: raise KeyError("k") from e
except KeyError as e: print(type(e.__cause__).__name__, e.__traceback__.tb_lineno)
finally: print("finally")
