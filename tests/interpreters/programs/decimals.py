from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal, DivisionByZero, InvalidOperation, getcontext, localcontext
print(Decimal("0.1") + Decimal("0.2"), Decimal(1) / Decimal(7), Decimal("1.10") * 3, Decimal(2).sqrt(), Decimal(10).ln())
with localcontext() as context:
    context.prec = 60
    print(Decimal(2).sqrt(), Decimal(1).exp(), sum(Decimal(1) / (Decimal(16) ** k) * (Decimal(4) / (8 * k + 1) - Decimal(2) / (8 * k + 4) - Decimal(1) / (8 * k + 5) - Decimal(1) / (8 * k + 6)) for k in range(50)), sep="\n")
for value in ("2.675", "-2.665", "1e3", "0.5"):
    d = Decimal(value)
    print(d.quantize(Decimal("0.01"), ROUND_HALF_UP), d.quantize(Decimal("1"), ROUND_DOWN), d.as_tuple(), d.normalize(), f"{d:,.3f}")
print(Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+400") * Decimal("1E+400"), Decimal("123.4500").normalize(), Decimal(0.1))
for go in (lambda: Decimal(1) / 0, lambda: Decimal("abc"), lambda: Decimal(-1).sqrt()):
    try: go()
    except (DivisionByZero, InvalidOperation) as problem: print(type(problem).__name__)
print(Context(prec=5).divide(22, 7), Decimal("7") % Decimal("-3"), Decimal("7").compare(Decimal("7.0")), max(Decimal(3), Decimal("3.1")), getcontext().prec)
