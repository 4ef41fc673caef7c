import collections, functools, heapq, itertools, operator, bisect
print(list(itertools.accumulate(range(1, 8), operator.mul)), list(itertools.combinations("abcd", 2))[:4], len(list(itertools.permutations(range(6)))))
print([(k, len(list(g))) for k, g in itertools.groupby("aaabbcaa")], list(itertools.islice(itertools.cycle("ab"), 5)), list(itertools.pairwise([1, 3, 6])))
print(list(itertools.zip_longest("ab", "xyz", fillvalue="-")), list(itertools.product([0, 1], repeat=2)), list(itertools.starmap(pow, [(2, 3), (3, 2)])))
print(list(itertools.takewhile(lambda x: x < 5, itertools.count(1, 2))), list(itertools.compress("abcde", [1, 0, 1, 0, 1])), [list(t) for t in itertools.tee(range(3))])
def primes():
    composites = {}
    for n in itertools.count(2):
        if n in composites:
            for p in composites.pop(n): composites.setdefault(n + p, []).append(p)
        else:
            composites[n * n] = [n]
            yield n
print(list(itertools.islice(primes(), 25)), functools.reduce(operator.xor, range(100)))
print(collections.Counter("mississippi").most_common(3), collections.Counter(a=3) - collections.Counter(a=1, b=5), collections.deque(range(10), maxlen=3))
tree = lambda: collections.defaultdict(tree)
t = tree(); t["a"]["b"]["c"] = 1
print(dict(t["a"]["b"]), collections.ChainMap({"a": 1}, {"a": 2, "b": 3})["b"], list(collections.OrderedDict.fromkeys("cab")))
heap = [5, 1, 8, 3]; heapq.heapify(heap); heapq.heappush(heap, 2)
print([heapq.heappop(heap) for _ in range(5)], heapq.nlargest(2, [3, 9, 4]), list(heapq.merge([1, 4], [2, 3])), bisect.bisect([1, 3, 3, 5], 3))
def gen():
    x = yield 1
    try: yield x * 2
    except ValueError: yield "caught"
    return "end"
g = gen(); print(next(g), g.send(21), g.throw(ValueError), list(g))
print(sorted(["b", "A", "c"], key=str.lower, reverse=True), {**{"a": 1}, "b": 2}, [*range(3), *"ab"], {x: y for x, y in zip("ab", (1, 2))} | {"c": 3})
