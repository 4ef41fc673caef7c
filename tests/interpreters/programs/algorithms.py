import heapq, random
from collections import defaultdict, deque
random.seed(12345)
numbers = [random.randrange(1000) for _ in range(200)]
print(numbers[:10], random.random(), random.sample(range(100), 5), random.choices("abc", k=5), random.gauss(0, 1))
def quick(a): return a if len(a) < 2 else quick([x for x in a[1:] if x < a[0]]) + [a[0]] + quick([x for x in a[1:] if x >= a[0]])
def merge(a):
    if len(a) < 2: return a
    l, r, out = merge(a[:len(a) // 2]), merge(a[len(a) // 2:]), []
    while l and r: out.append((l if l[0] <= r[0] else r).pop(0))
    return out + l + r
print(quick(numbers) == merge(numbers) == sorted(numbers))
graph = defaultdict(dict)
for _ in range(300):
    a, b = random.sample(range(60), 2); graph[a][b] = random.randint(1, 20)
def dijkstra(start):
    far, heap = {start: 0}, [(0, start)]
    while heap:
        d, n = heapq.heappop(heap)
        if d > far[n]: continue
        for m, w in graph[n].items():
            if d + w < far.get(m, 1 << 30): far[m] = d + w; heapq.heappush(heap, (d + w, m))
    return far
print(sorted(dijkstra(0).items())[:12], sum(dijkstra(0).values()))
def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1): row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]
print(distance("kitten", "sitting"), distance("intention" * 5, "execution" * 5))
def life(cells, steps):
    for _ in range(steps):
        near = defaultdict(int)
        for x, y in cells:
            for dx in (-1, 0, 1):
                for dy in (-1, 0, 1): near[x + dx, y + dy] += (dx, dy) != (0, 0)
        cells = {c for c, n in near.items() if n == 3 or n == 2 and c in cells}
    return cells
print(sorted(life({(1, 0), (2, 1), (0, 2), (1, 2), (2, 2)}, 20)))
n = 600851475143 * 97; found = []; d = 2
while n > 1:
    while n % d == 0: found.append(d); n //= d
    d += 1
print(found, sum(1 for i in range(2, 5000) if all(i % k for k in range(2, int(i ** 0.5) + 1))))
maze = ["S.#.....", "..#.###.", ".##.#...", "....#.#E"]
def solve():
    todo, seen = deque([(0, 0, 0)]), {(0, 0)}
    while todo:
        x, y, d = todo.popleft()
        if maze[y][x] == "E": return d
        for a, b in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if 0 <= b < len(maze) and 0 <= a < len(maze[0]) and maze[b][a] != "#" and (a, b) not in seen:
                seen.add((a, b)); todo.append((a, b, d + 1))
print(solve())
