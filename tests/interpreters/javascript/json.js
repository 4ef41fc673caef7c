const data = { n: 1.5, s: "é\n", d: new Date(0), u: undefined, f() {}, nan: NaN, nested: [{ a: null }, [true]], toJSON: undefined };
console.log(JSON.stringify(data));
console.log(JSON.stringify(data, null, 2));
console.log(JSON.stringify({ a: 1, b: [2, { a: 3 }] }, ["b", "a"]), JSON.stringify([1, 2], (k, v) => Array.isArray(v) ? v : v * 2));
console.log(JSON.parse('{"a":[1,2,{"b":"\\u00e9"}],"__proto__":1}', (k, v) => typeof v === "number" ? v + 1 : v));
try { JSON.parse("{bad"); } catch (e) { console.log(e.name); }
const o = {}; o.o = o;
try { JSON.stringify(o); } catch (e) { console.log(e.name); }
try { JSON.stringify(1n); } catch (e) { console.log(e.name); }
console.log(structuredClone({ a: new Map([[1, new Set([2])]]), d: new Date(5), b: new Uint8Array([1]), r: /x/g }));
const c = { list: [1] }; c.me = c; const copy = structuredClone(c); console.log(copy !== c && copy.me === copy && copy.list !== c.list);
try { structuredClone(() => {}); } catch (e) { console.log(e.name); }
