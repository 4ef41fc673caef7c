const u = new URL("../b?x=1&y=a%20b#frag", "https://user:pw@Example.com:8080/a/c/d");
console.log(u.href, u.host, u.origin, u.pathname, [...u.searchParams], u.searchParams.get("y"));
u.searchParams.append("z", "é&="); u.hash = ""; u.port = "443"; u.pathname = "/new path";
console.log(u.toString(), JSON.stringify({ u }));
u.search = "?q=2"; console.log(u.searchParams.get("q"), u.searchParams.get("x"));
console.log(URL.canParse("nope"), URL.canParse("a:b"));
try { new URL("not a url"); } catch (e) { console.log(e.name, e.code, e.message); }
const p = new URLSearchParams({ a: "1", b: "two words" }); p.append("a", "3"); p.sort(); p.delete("b");
console.log(p.toString(), p.getAll("a"), p.has("b"), p.size, new URLSearchParams("?a=1&a=2&b=%F0%9F%91%8D+x"));
console.log(new URL("http://münchen.de/ä?ö").href, new URL("file:///tmp/x").protocol, new URL("http://a.b/%7Efoo/../x").href);
console.log(u);
