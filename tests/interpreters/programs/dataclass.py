import abc, enum
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Generic, NamedTuple, Protocol, TypeVar
T = TypeVar("T")
class Color(enum.Enum):
    RED, GREEN = 1, 2
class Bits(enum.IntFlag):
    A = enum.auto(); B = enum.auto(); C = enum.auto()
@dataclass(order=True, frozen=True)
class Point:
    x: int
    y: int = 0
    tags: tuple = field(default=(), compare=False, repr=False)
    def __post_init__(self):
        if self.x < 0: raise ValueError("negative")
@dataclass(slots=True, kw_only=True)
class Shape(Generic[T]):
    points: list[Point] = field(default_factory=list)
    color: Color = Color.RED
class Pair(NamedTuple):
    a: int
    b: str = "b"
class Base(abc.ABC):
    @abc.abstractmethod
    def go(self): ...
    @property
    def twice(self): return self.go() * 2
class Child(Base):
    def go(self): return 21
    def __getattr__(self, name): return f"no {name}"
    def __class_getitem__(cls, item): return item
print(sorted([Point(2, 1), Point(1, 5), Point(1, 2)]), replace(Point(1), y=9), hash(Point(1)) == hash(Point(1, 0)), asdict(Shape(points=[Point(1)])))
print([f.name for f in fields(Shape)], Shape(color=Color.GREEN), Pair(1)._replace(b="c"), Pair(1)._asdict(), Child().twice, Child().missing, Child[5])
print(Bits.A | Bits.C, Bits(3), Bits.A in Bits(5), list(Color), Color(2), Color["RED"].name)
for go in (lambda: Point(-1), lambda: setattr(Point(1), "x", 2), lambda: Base(), lambda: Color(5), lambda: Shape(1)):
    try: go()
    except (ValueError, AttributeError, TypeError) as problem: print(type(problem).__name__)
def kind(x):
    match x:
        case Point(x=0, y=y): return f"on y at {y}"
        case [a, *rest] if rest: return f"{a} and {len(rest)}"
        case {"k": v, **more}: return f"{v} {more}"
        case str() | bytes(): return "text"
        case _: return "other"
print([kind(x) for x in (Point(0, 3), [1, 2, 3], {"k": 1, "z": 2}, "s", b"b", 5, [])], Child.__mro__[:2])
