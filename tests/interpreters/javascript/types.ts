interface Shape { readonly kind: string; area(): number }
type Pair<A, B = A> = [A, B];
abstract class Base<T extends object> implements Shape {
  protected items: T[] = [];
  private static made?: number;
  declare hidden: string;
  constructor(readonly_: boolean, public_?: T) { if (public_) this.items.push(public_); }
  abstract get kind(): string;
  area(this: Base<T>): number { return this.items.length!; }
}
class Real extends Base<{ n: number }> {
  override get kind(): string { return "real" as const; }
  add<U extends { n: number }>(item: U): this { this.items.push(item); return this; }
}
function pick(a: string): string;
function pick(a: number): number;
function pick(a: any): any { return a; }
const real = new Real(true, { n: 1 }).add<{ n: number }>({ n: 2 });
const pair: Pair<number, string> = [1, "two"];
const table = { a: 1, b: 2 } satisfies Record<string, number>;
const f = async <T,>(x: T, ...rest: readonly T[]): Promise<T | undefined> => rest.at(-1) ?? x;
let later!: string;
later = (pick("x") as unknown) as string;
export type { Shape };
console.log(real.kind, real.area(), pair, table, later, pick(5));
f(1, 2, 3).then((value: number | undefined): void => console.log(value));
