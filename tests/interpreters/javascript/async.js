const log = [];
const sleep = (ms, v) => new Promise((r) => setTimeout(() => r(v), ms));
setTimeout(() => log.push("timeout"), 0);
setImmediate(() => log.push("immediate"));
process.nextTick(() => log.push("tick"));
queueMicrotask(() => log.push("microtask"));
log.push("sync");
(async () => {
  log.push("async start");
  const all = await Promise.all([sleep(3, "a"), sleep(1, "b"), "c"]);
  log.push(all.join());
  log.push(await Promise.race([sleep(20, "slow"), sleep(1, "fast")]));
  log.push((await Promise.allSettled([Promise.reject(new Error("no")), 1])).map((r) => r.status).join());
  try { await Promise.any([Promise.reject(1)]); } catch (e) { log.push(e.constructor.name, e.errors.length); }
  for await (const x of (async function* () { yield 1; await sleep(1); yield 2; })()) log.push(x);
  let ticks = 0;
  await new Promise((done) => { const t = setInterval(() => { if (++ticks === 3) { clearInterval(t); done(); } }, 1); });
  log.push("ticks " + ticks);
  console.log(log.slice(0, 3).join(" "), "|", log.includes("tick"), log.indexOf("timeout") < log.indexOf("immediate") || true);
  console.log(log.slice(log.indexOf("a,b,c")));
})();
