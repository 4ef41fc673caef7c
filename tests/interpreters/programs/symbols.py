# with sympy
from sympy import *
x, y, n = symbols("x y n")
print(expand((x + y) ** 4), factor(x ** 4 - 1), simplify(sin(x) ** 2 + cos(x) ** 2), diff(exp(x) * sin(x), x), integrate(x * exp(-x), x), integrate(exp(-x ** 2), (x, -oo, oo)), sep="\n")
print(solve(x ** 2 - 3 * x + 2, x), solve([x + y - 3, x - y - 1], [x, y]), limit(sin(x) / x, x, 0), series(cos(x), x, 0, 7), summation(1 / n ** 2, (n, 1, oo)), dsolve(Function("f")(x).diff(x) - Function("f")(x)))
print(Matrix([[1, 2], [3, 4]]).inv(), Matrix([[2, 1], [1, 2]]).eigenvals(), factorint(2 ** 40 - 1), isprime(2 ** 61 - 1), nextprime(1000), Rational(1, 3) + Rational(1, 6), N(pi, 40), latex(Integral(x ** 2, x)))
print(pretty(sqrt(x) / (y + 1), use_unicode=True), binomial(20, 10), prime(100), apart(1 / (x * (x + 1))), Poly(x ** 3 - x, x).all_roots(), lambdify(x, x ** 2 + 1)(3), Eq(x, 2).subs(x, 2))
