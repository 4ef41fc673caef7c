console.group("outer"); console.log("in\nside"); console.group(); console.info({ a: 1 }); console.groupEnd(); console.groupEnd(); console.log("out");
console.count(); console.count("x"); console.count(); console.countReset(); console.count();
console.table([{ a: 1, b: "x" }, { a: 2, c: true }]); console.table([[1, 2], [3, 4]]); console.table(["p", "q"]); console.table([{ a: 1, b: 2 }], ["b"]); console.table(5);
console.dir({ a: { b: { c: { d: 1 } } } }, { depth: 0 });
console.log(); console.log(""); console.log("a", "b", 1, null, undefined); console.log("%s", { a: { b: 1 } }, [1, [2, [3]]]); console.log("100%", 5, "%d", 4);
console.log("%s %s", "only one"); console.log("%x %s", "y"); console.log("%s", Symbol("q"), 12345678901234567890n, -0, () => 1, class K {});
console.log("%d|%i|%f", "42.5", "42.9abc", "x"); console.log("%o", [1]); console.log("%j", { a: 1n === 1n });
process.stdout.write("no newline"); process.stdout.write("\n");
console.assert(true, "never"); console.log(typeof console.time, typeof console.trace);
