from fractions import Fraction
import statistics
print(Fraction(3, 6), Fraction("0.125"), Fraction(0.1), Fraction(1, 3) + Fraction(1, 6), Fraction(-7, 2) // 1, Fraction(22, 7) ** -2)
print(Fraction(3.141592653589793).limit_denominator(1000), sum(Fraction(1, k) for k in range(1, 30)), float(Fraction(2, 3)))
def bernoulli(n):
    row = [Fraction(0)] * (n + 1)
    for m in range(n + 1):
        row[m] = Fraction(1, m + 1)
        for j in range(m, 0, -1): row[j - 1] = j * (row[j - 1] - row[j])
    return row[0]
print([str(bernoulli(n)) for n in range(0, 21, 2)])
data = [2, 3, 5, 7, 11, 13, 3]
print(statistics.mean(data), statistics.median(data), statistics.mode(data), f"{statistics.stdev(data):.10f}", statistics.quantiles(data), statistics.mean([Fraction(1, 2), Fraction(1, 3)]))
print(statistics.linear_regression([1, 2, 3], [2, 4, 6.5]), f"{statistics.NormalDist(5, 2).cdf(6):.12f}")
