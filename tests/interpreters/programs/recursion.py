import functools, sys
def hanoi(n, a="A", b="B", c="C"):
    return [] if n == 0 else hanoi(n - 1, a, c, b) + [a + c] + hanoi(n - 1, b, a, c)
def permutations(items):
    if len(items) < 2: yield items
    for i, item in enumerate(items):
        for rest in permutations(items[:i] + items[i + 1:]): yield [item] + rest
def ackermann(m, n):
    return n + 1 if m == 0 else ackermann(m - 1, 1 if n == 0 else ackermann(m, n - 1))
def queens(n, row=0, columns=()):
    if row == n: return 1
    return sum(queens(n, row + 1, columns + (c,)) for c in range(n)
               if all(c != d and abs(c - d) != row - r for r, d in enumerate(columns)))
@functools.cache
def partitions(n, most):
    return 1 if n == 0 else sum(partitions(n - k, k) for k in range(1, min(n, most) + 1))
def flatten(x):
    return [z for y in x for z in flatten(y)] if isinstance(x, list) else [x]
print(len(hanoi(10)), "".join(hanoi(3)), list(permutations([1, 2, 3])), ackermann(2, 8), queens(7))
print(partitions(100, 100), flatten([1, [2, [3, [4]], 5], []]))
def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
print(deep(900))
try:
    deep(sys.getrecursionlimit() + 100)
except RecursionError:
    print("RecursionError")
