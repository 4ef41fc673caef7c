const show = (f) => { try { f(); console.log("no error"); } catch (e) { console.log(e.name, e instanceof Error, typeof e.stack, e.stack.startsWith(e.name)); } };
show(() => null.x); show(() => undefinedName); show(() => { const c = 1; c = 2; }); show(() => new Array(-1)); show(() => "x".repeat(-1));
show(() => { let deep = 0; (function f() { deep++; f(); })(); }); show(() => eval("let ="));show(() => BigInt(1.5)); show(() => decodeURIComponent("%"));
const outer = new Error("outer", { cause: new TypeError("inner") }); console.log(outer.cause.message, outer.cause instanceof TypeError);
const agg = new AggregateError([new Error("a"), 2], "many"); console.log(agg.errors.length, agg.message);
try { try { throw 1; } finally { console.log("finally"); } } catch (e) { console.log("caught", e); }
const f = async () => { throw new RangeError("async"); };
f().catch((e) => console.log(e.message)).finally(() => console.log("done"));
const e = new Error("msg"); e.code = "ECODE"; console.log(Object.keys(e), e.toString(), Object.prototype.toString.call(e));
process.on("exit", (code) => console.log("exit", code));
process.exitCode = 0;
