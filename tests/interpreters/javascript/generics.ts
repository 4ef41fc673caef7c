type Tree<T> = { value: T; left?: Tree<T>; right?: Tree<T> } | null;
const insert = <T>(tree: Tree<T>, value: T): Tree<T> =>
  tree === null ? { value } : value < tree.value
    ? { ...tree, left: insert(tree.left ?? null, value) }
    : { ...tree, right: insert(tree.right ?? null, value) };
function* walk<T>(tree: Tree<T> | undefined): Generator<T, void, unknown> {
  if (!tree) return;
  yield* walk(tree.left);
  yield tree.value;
  yield* walk(tree.right);
}
let tree: Tree<number> = null;
for (const n of [5, 2, 8, 1, 9, 3] as const) tree = insert<number>(tree, n);
console.log([...walk(tree)].join(" "));
const isString = (x: unknown): x is string => typeof x === "string";
const xs: (string | number)[] = ["a", 1, "b"];
console.log(xs.filter(isString), xs.length as number, (xs[0]! as string).toUpperCase());
