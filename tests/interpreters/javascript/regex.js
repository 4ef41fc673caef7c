console.log("2024-05-06".replace(/(\d+)-(\d+)-(\d+)/, "$3/$2/$1"), /(?<=\$)\d+(?:\.\d\d)?/.exec("cost $42.50")[0], "aBc".replace(/b/i, (m) => `[${m}]`));
console.log("one1two22three".split(/\d+/), "a1b2".match(/[a-z]\d/g), /^[\w.+-]+@\w+\.\w{2,}$/.test("a.b+c@d.org"), /(a)|b/.exec("b"));
console.log([..."k1=v1;k2=v2".matchAll(/(\w+)=(\w+)/g)].map(([, k, v]) => [k, v]), "x".search(/y/), /\u{1f44d}/u.test("👍"), "aaa".lastIndexOf("a"));
const re = /o/gy; re.lastIndex = 1; console.log(re.test("foo"), re.lastIndex, re.flags, re.source, String(re), "tel: 555-1234".match(/(?<a>\d{3})-(?<b>\d{4})/).groups.b);
console.log("<b>x</b><b>y</b>".match(/<b>(.*?)<\/b>/g), "camelCaseString".replace(/([A-Z])/g, " $1").toLowerCase(), "  trim ".trim() + "|", "a,b;c".split(/[,;]/), "%".replace("%", "$&$&"));
