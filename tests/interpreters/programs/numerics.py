import cmath, math
print(0.1 + 0.2, 1e308 * 10, -0.0, 5e-324, 1 / 3, 2 ** 0.5, 10 ** 22, 1e22, 1e16, 123456789012345678, 1e-7)
print(math.fsum([0.1] * 10), math.gcd(2 ** 60, 6 ** 20), math.lcm(4, 6, 10), math.comb(50, 25), math.perm(10, 4))
print(math.isqrt(10 ** 40), math.factorial(30), math.frexp(10.5), math.ldexp(0.5, 5), math.modf(-3.25), math.copysign(1, -0.0))
print(*(f"{f(0.7):.12f}" for f in (math.sin, math.cos, math.tan, math.exp, math.log, math.sqrt, math.erf, math.gamma, math.asinh)))
print(divmod(-7, 3), -7 // 3, -7 % 3, 7 % -3, divmod(-7.5, 2), round(2.5), round(-2.5), round(2.675, 2), round(1234, -2))
print(pow(3, 1000, 10 ** 9 + 7), pow(3, -1, 11), hex(-255), int("-0x1f", 16), int("z", 36), float.hex(0.1), float.fromhex("0x1.8p3"))
print((0.1).as_integer_ratio(), float("inf") > 1e308, float("nan") == float("nan"), int(1e18), 2 ** 200, (-2) ** 63, ~5, 6 ^ 3, 1 << 70)
z = complex(3, 4)
print(abs(z), z.conjugate(), z * z, f"{cmath.phase(z):.10f}", cmath.isclose(cmath.sqrt(-1), 1j), (1 + 2j) ** 2)
print((255).to_bytes(4, "little"), int.from_bytes(b"\xff\xfe", "big", signed=True), (1000).bit_length(), bin(37).count("1"))
for go in (lambda: 1 // 0, lambda: math.sqrt(-1), lambda: int("12a"), lambda: math.exp(1000), lambda: 0 ** -1):
    try: go()
    except (ArithmeticError, ValueError) as problem: print(type(problem).__name__)
