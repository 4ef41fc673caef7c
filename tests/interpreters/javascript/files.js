const fs = require("fs"), path = require("node:path");
fs.mkdirSync("tree/a/b", { recursive: true });
fs.writeFileSync("tree/a/one.txt", "first line\nsecond é\n");
fs.appendFileSync("tree/a/one.txt", "third");
fs.writeFileSync(path.join("tree", "a", "b", "two.bin"), Buffer.from([0, 1, 254, 255]));
console.log(fs.readFileSync("tree/a/one.txt", "utf8").split("\n"), fs.readFileSync("tree/a/b/two.bin"));
console.log(fs.readdirSync("tree/a"), fs.statSync("tree/a/one.txt").size, fs.statSync("tree").isDirectory(), fs.existsSync("nope"));
console.log(fs.readdirSync("tree", { recursive: true }).sort(), fs.readdirSync("tree", { withFileTypes: true }).map((e) => [e.name, e.isDirectory()]));
for (const run of [() => fs.readFileSync("missing.txt"), () => fs.mkdirSync("tree"), () => fs.rmdirSync("tree"), () => fs.readdirSync("tree/a/one.txt"), () => fs.readFileSync("tree")]) {
  try { run(); } catch (e) { console.log(e.code, e.syscall, e.message); }
}
fs.renameSync("tree/a/one.txt", "tree/moved.txt"); fs.copyFileSync("tree/moved.txt", "tree/copy.txt");
console.log(fs.readFileSync("tree/copy.txt", { encoding: "latin1" }).length);
fs.promises.readFile("tree/copy.txt", "utf8").then((text) => {
  fs.rmSync("tree", { recursive: true }); fs.rmSync("tree", { force: true });
  console.log(text.length, fs.existsSync("tree"));
  fs.readFile("tree", (e, data) => console.log(e.code, data));
});
console.log(path.resolve("/a/b", "../c"), path.relative("/a/b/c", "/a/d"), path.parse("/home/x.tar.gz"), path.extname(".bashrc"), path.normalize("/a//b/./../c/"), path.basename("/x/y.js", ".js"));
