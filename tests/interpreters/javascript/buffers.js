const b = Buffer.from("héllo wörld €");
console.log(b, b.length, b.toString("hex"), b.toString("base64"), b.toString("base64url"), b.toString("latin1").length);
console.log(Buffer.from("aGk=", "base64").toString(), Buffer.from("6869", "hex").toString(), Buffer.concat([Buffer.from("a"), Buffer.alloc(2, "z")]).toString());
console.log(b.slice(0, 2).equals(Buffer.from("h\xc3", "latin1")), b.indexOf("w"), b.includes("€"), Buffer.byteLength("€"), Buffer.compare(Buffer.from("a"), Buffer.from("b")));
const n = Buffer.alloc(16); n.writeUInt32BE(0xdeadbeef, 0); n.writeInt16LE(-2, 4); n.writeDoubleLE(1.5, 8); console.log(n, n.readUInt32BE(0), n.readInt16LE(4), n.readDoubleLE(8));
console.log(JSON.stringify(Buffer.from("ab")), Buffer.isBuffer(n), [...Buffer.from("é")]);
console.log(new TextEncoder().encode("€uro"), new TextDecoder().decode(new Uint8Array([0xe2, 0x82, 0xac, 0xff, 0xe2, 0x82, 0x41])), new TextDecoder("utf-16le").decode(new Uint8Array([104, 0, 105, 0])));
try { new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff])); } catch (e) { console.log(e.name); }
console.log(btoa("hello"), atob("aGVsbG8="), new TextEncoder().encodeInto("a€b", new Uint8Array(3)));
try { btoa("€"); } catch (e) { console.log(e.name); }
const d = new TextDecoder(); console.log(d.decode(new Uint8Array([0xe2, 0x82]), { stream: true }) + d.decode(new Uint8Array([0xac]), { stream: true }) + d.decode());
console.log("x".repeat(10000) === new TextDecoder().decode(new TextEncoder().encode("x".repeat(10000))), "é€👍".repeat(5000) === Buffer.from("é€👍".repeat(5000)).toString());
