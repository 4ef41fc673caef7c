// TypeScript files: the host blanks their types, and the engine's loader knows them by name before code imports
// them. `./lib.ts` is also found as `./lib.js` and `./lib`, unless there is such a file.
casemate$part(($) => {
  "use strict";
  const { os, fs, exec, startsWith, endsWith, slice, includes, stringify } = $;
  const MAX_FILES = 256, MAX_DEPTH = 8;
  // Why a source cannot be used, by name; empty where it can.
  const known = $.create(null);
  let waiting = [];

  /** JavaScript of the same lines and columns. Throws a SyntaxError that names the place. */
  $.withoutTypes = (name, bytes) => {
    const [answer, body] = $.ask({ m: "typescript", name }, bytes);
    if (answer.error === undefined) return $.decode(body);
    const place = answer.line > 0 ? `${name}:${answer.line}:${answer.column}: ` : `${name}: `;
    throw new $.SyntaxError(place + answer.error);
  };

  const find = (folder, before, depth) => {
    const [names, status] = os.readdir(folder);
    if (status !== 0) return;
    for (const name of names) {
      if (waiting.length >= MAX_FILES) return;
      if (exec(/\.m?ts$/, name) !== null && !endsWith(name, ".d.ts")) {
        if (known[before + name] === undefined) waiting[waiting.length] = before + name;
      } else if (depth < MAX_DEPTH && !includes(name, ".") && name !== "node_modules") {
        // Most often a directory; if not, reading it fails.
        find(`${folder}/${name}`, `${before}${name}/`, depth + 1);
      }
    }
  };

  /** Looks for sources that code may import. */
  $.findSources = () => {
    waiting = [];
    find("/work", "", 0);
  };

  // Names and code that the loader is to be told of.
  let ready = [];
  const IMPORTED = /(?:\bfrom|\bimport)\s*\(?\s*["'](\.\.?\/[^"'\n]+)["']/g;

  // The engine resolves the imports of a module when it is told of it, so what a source imports comes first.
  const order = (name, codes) => {
    const code = codes[name];
    if (code === undefined) return;
    delete codes[name];
    IMPORTED.lastIndex = 0;
    const folder = $.path.dirname(name);
    for (let found = exec(IMPORTED, code); found !== null; found = exec(IMPORTED, code)) {
      const at = IMPORTED.lastIndex, wanted = $.joinPath(folder, found[1]);
      for (const one of [wanted, `${wanted}.ts`, `${wanted}.mts`, $.replace(wanted, /\.(m?)js$/, ".$1ts")]) order(one, codes);
      IMPORTED.lastIndex = at;
    }
    const file = slice(name, $.lastIndexOf(name, "/") + 1);
    const bare = $.replace(name, /\.m?ts$/, "");
    ready[ready.length] = `${name}\n${code}`;
    let all = `export * from ${stringify(`./${file}`)};`;
    if (exec(/\bexport\s+default\b|\bas\s+default\b/, code) !== null) all += ` export { default } from ${stringify(`./${file}`)};`;
    for (const alias of [bare, `${bare}.${endsWith(name, ".mts") ? "mjs" : "js"}`]) {
      if (known[alias] !== undefined || fs.existsSync(`/work/${alias}`)) continue;
      known[alias] = known[name];
      ready[ready.length] = `${alias}\n${all}`;
    }
  };

  /** Name and JavaScript of the next source, or of another name of one; nothing after the last. */
  $.nextSource = () => {
    if (waiting.length > 0) {
      const codes = $.create(null);
      for (let i = 0; i < waiting.length; i++) {
        const name = waiting[i];
        try {
          codes[name] = $.withoutTypes(name, $.readBytes(`/work/${name}`));
          known[name] = "";
        } catch (problem) {
          known[name] = problem.message;
          codes[name] = `throw new SyntaxError(${stringify(problem.message)});`;
        }
      }
      ready = [];
      for (let i = 0; i < waiting.length; i++) order(waiting[i], codes);
      waiting = [];
      next = 0;
    }
    return ready[next++];
  };
  let next = 0;
  /** Why a TypeScript file could not be imported. */
  $.sourceProblem = (name) => known[startsWith(name, "./") ? slice(name, 2) : name];
});
