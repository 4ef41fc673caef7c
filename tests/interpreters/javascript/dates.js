const d = new Date(Date.UTC(2024, 1, 29, 12, 30, 45, 678));
console.log(d.toISOString(), d.getTime(), d.toJSON(), d.getUTCDay(), new Date("2024-03-10T10:00:00Z") - d);
console.log(new Date("invalid").getTime(), isNaN(new Date(NaN)), [new Date(NaN)], Date.parse("2000-01-01"), new Date(2020, 0, 31).getMonth());
d.setUTCMonth(d.getUTCMonth() + 1); console.log(d.toISOString()); d.setUTCDate(0); console.log(d.toISOString().slice(0, 10));
console.log(new Date("2024-01-01T00:00:00+02:00").toISOString(), typeof Date.now(), Date.now() > 1.6e12, new Date(0).getTimezoneOffset());
const weeks = []; for (let t = Date.UTC(2024, 0, 1); weeks.length < 4; t += 7 * 864e5) weeks.push(new Date(t).toISOString().slice(5, 10)); console.log(weeks);
