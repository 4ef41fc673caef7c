// Turns: one piece of code each. The host evaluates the code and runs the jobs that follow; this says what to
// evaluate, keeps what became of it, and tells the host. The last of the guest scripts.
casemate$part(($) => {
  "use strict";
  const { std, then, decode, exec } = $;
  const BEGIN = 0, RAN = 1, THREW = 2, IDLE = 3, REJECTED = 4, LEXICALS = 5, REJECTIONS = 6, MODULE = 7, BUILTIN = 8, FREEZE = 9, NAMES = 10, SOURCE = 11;

  // How a turn begins: bits of what the host says.
  const RESEED = 1, PLAIN = 2, SOURCES = 4;

  // The code is asked for when something needs it: most turns never do.
  let name = "<code>", code = null;
  let failure = null, value, tries = 0, again;
  // The object that holds what `let`, `const` and `class` made at the top level, and where the engine keeps the
  // list of rejections nobody handled.
  let lexicals = null, rejections = 0;

  /** Ends the turn with an error, unless one has already. */
  $.fail = (problem) => {
    if ($.isExit(problem) || failure !== null) return;
    if ($.emitProcess("uncaughtException", problem, "uncaughtException")) return;
    failure = { problem };
  };

  const begin = (how) => {
    failure = null;
    value = undefined;
    tries = 0;
    again = undefined;
    code = null;
    rewritten = null;
    $.exiting = undefined;
    if (how & RESEED) {
      $.reseed();
      $.startClock();
    }
    $.clearTimers();
    $.resetConsole();
    if (how & PLAIN) {
      name = "<code>";
      $.startProcess(undefined, undefined);
    } else {
      const [header, body] = $.ask({ m: "turn" });
      name = header.name;
      code = new $.Uint8Array(body);
      // A later turn may show lines of this one.
      $.keepSource(name, code);
      $.startProcess(header.argv, header.env);
    }
    if (how & SOURCES) $.findSources();
    return rejections;
  };

  const codeBytes = () => code ??= new $.Uint8Array($.ask({ m: "turn" })[1]);
  /** The code of this turn, if that is its name. */
  $.sourceOfTurn = (file) => file === name ? codeBytes() : undefined;

  const ran = (promise) => {
    then(promise, (result) => {
      // A script's completion value comes in an object, so that it is not awaited; a module has none.
      const last = result === undefined ? undefined : result.value;
      if (!$.isPromise(last)) {
        value = last;
        return;
      }
      then(last, (awaited) => { value = awaited; }, $.fail);
    }, (problem) => {
      again = declaredAnew(problem);
      if (again === undefined) $.fail(problem);
    });
  };

  // What an earlier turn declared may be declared anew, as in the console of a browser. The engine refuses that
  // before it runs anything; the script is evaluated again once the old declaration is out of the way.
  const declaredAnew = (problem) => {
    if (!(problem instanceof $.SyntaxError) || ++tries > 64) return undefined;
    const parts = exec(/^redeclaration of '(.*)'$/, problem.message);
    // Only before the first statement: later, this is user code's own affair.
    if (parts === null || exec(/^[^\n]*:1:1\)?\n?$/, $.rawStack(problem)) === null) return undefined;
    const variable = parts[1];
    if (lexicals !== null && $.hasOwn(lexicals, variable)) {
      delete lexicals[variable];
      return `s${text()}`;
    }
    // A function or `var` of an earlier turn cannot be taken away, but a `var` may stand for it.
    const escaped = $.replaceAll(variable, "$", "\\$");
    const changed = $.replace(text(), new $.RegExp(`^([ \\t]*)(?:const|let(?=\\s))(?=\\s+${escaped}(?![\\w$]))`, "m"), "$1var");
    const before = text();
    rewritten = changed;
    return changed === before ? undefined : `s${changed}`;
  };

  // The code as it is evaluated, once that is not as it came.
  let rewritten = null;
  const text = () => rewritten ?? decode(codeBytes());

  /** An error before anything ran: what to evaluate instead, or nothing. A leading "m" marks a module. */
  const threw = (problem) => {
    if (problem instanceof $.SyntaxError && ++tries <= 64) {
      if (rewritten !== null) {
        // Perhaps it only works as a module; if it does not, that error says more.
        rewritten = null;
        return `m${decode(codeBytes())}`;
      }
      const original = decode(codeBytes());
      if (tries === 1 && exec(/\b(?:import|export)\b/, original) !== null) {
        const changed = $.withoutImports(original);
        if (changed === original || exec(/^\s*export\b|\bimport\s*\.\s*meta\b/m, changed) !== null) return `m${original}`;
        rewritten = changed;
        return `s${changed}`;
      }
    }
    $.fail(problem);
    return undefined;
  };

  const finish = () => {
    if (failure === null && $.exiting === undefined) {
      try {
        $.emitProcess("beforeExit", $.exitCode());
        if ($.runTimers()) return 1;
        $.emitProcess("exit", $.exitCode());
      } catch (problem) {
        $.fail(problem);
      }
    }
    let status = $.exiting;
    if (status === undefined) {
      if (failure !== null) {
        status = 1;
        $.report(failure.problem);
      } else {
        status = $.exitCode();
        try {
          if (value !== undefined) $.sendValue(value);
        } catch (problem) {
          status = 1;
          $.report(problem);
        }
      }
    }
    if (failure === null && value !== undefined) globalThis._ = value;
    std.out.flush();
    std.err.flush();
    $.closeHost();
    return -1 - status;
  };

  /** Nothing is left to run: a string is code to evaluate, 1 means that there is more to
   *  run, a negative number that it was all: -1 for exit code 0, -2 for 1 and so on. */
  const idle = () => {
    if (again !== undefined) {
      const code = again;
      again = undefined;
      return code;
    }
    if (failure === null && $.exiting === undefined) {
      try {
        if ($.runTimers()) return 1;
      } catch (problem) {
        $.fail(problem);
        return 1;
      }
    }
    return finish();
  };

  const rejected = (reason) => {
    if ($.isExit(reason)) return;
    if (failure === null && $.emitProcess("unhandledRejection", reason)) return;
    $.fail(reason);
  };

  const driver = (operation, given, ...rest) => {
    switch (operation) {
      case BEGIN: return begin(given);
      case RAN: return ran(given);
      case THREW: return threw(given);
      case IDLE: return idle();
      case REJECTED: return rejected(given);
      case LEXICALS:
        if (lexicals === null) lexicals = given;
        return undefined;
      case REJECTIONS:
        if (rejections === 0) rejections = given;
        return undefined;
      // The modules that exist without a file: first their sources by number, later their content by name.
      case MODULE: return $.moduleSource(given);
      case BUILTIN: return $.builtin(given);
      // What preparing left behind is not part of anybody's run.
      case FREEZE:
        $.forgetSources();
        for (const variable of $.keys(lexicals)) delete lexicals[variable];
        delete globalThis._;
        code = null;
        name = "<code>";
        std.gc();
        return undefined;
      // Sources that the code may import, to be made known before it runs.
      case SOURCE: return $.nextSource();
      case NAMES: return $.withNames(given, rest);
    }
  };
  $.defineProperty(globalThis, "casemate$driver", { value: driver, writable: false, enumerable: false, configurable: false });
  delete globalThis.casemate$part;
  // Where relative paths and imports begin.
  $.process.chdir("/work");
});
