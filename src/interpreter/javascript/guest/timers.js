// Timers, immediates and microtasks. The host runs a turn until nothing of these is left.
casemate$part(($) => {
  "use strict";
  const { apply, now, os, then, Promise } = $;
  const { sleep } = os;
  const LONGEST = 2 ** 31 - 1;
  // By the time they are due; those due at once in the order in which they were set.
  let timers = [];
  let immediates = [];
  let sequence = 0;

  const needFunction = (callback, what) => {
    if (typeof callback === "function") return;
    const problem = new $.TypeError(`The "callback" argument of ${what} must be of type function. Received ${$.inspect(callback)}`);
    problem.code = "ERR_INVALID_ARG_TYPE";
    throw problem;
  };

  class Timeout {
    constructor(id) { $.defineProperty(this, "id", { value: id }); }
    ref() { const one = find(this.id); if (one) one.held = true; return this; }
    unref() { const one = find(this.id); if (one) one.held = false; return this; }
    hasRef() { return find(this.id)?.held ?? false; }
    refresh() { const one = find(this.id); if (one) { remove(one); start(one); } return this; }
    close() { clearTimeout(this); return this; }
    [Symbol.toPrimitive]() { return this.id; }
    [Symbol.dispose]() { clearTimeout(this); }
  }
  class Immediate extends Timeout {}

  const find = (id) => {
    for (const one of timers) if (one.id === id) return one;
    for (const one of immediates) if (one.id === id) return one;
    return undefined;
  };
  const remove = (one) => {
    for (const list of [timers, immediates]) {
      for (let i = 0; i < list.length; i++) {
        if (list[i] === one) {
          $.splice(list, i, 1);
          return;
        }
      }
    }
  };
  const start = (one) => {
    // What is due within a millisecond is due now: so it comes before immediates, every time.
    one.due = one.delay <= 1 ? now() : now() + one.delay;
    let at = timers.length;
    while (at > 0 && timers[at - 1].due > one.due) at--;
    $.splice(timers, at, 0, one);
  };
  const set = (callback, delay, values, repeated) => {
    needFunction(callback, repeated ? "setInterval" : "setTimeout");
    delay = +delay;
    if (!(delay >= 1 && delay <= LONGEST)) delay = 1;
    const one = { id: ++sequence, callback, delay: $.trunc(delay), values, repeated, due: 0, held: true };
    start(one);
    return new Timeout(one.id);
  };
  const clearTimeout = (handle) => {
    if (handle === undefined || handle === null) return;
    const one = find(typeof handle === "object" ? handle.id : +handle);
    if (one) remove(one);
  };
  const setImmediate = (callback, ...values) => {
    needFunction(callback, "setImmediate");
    const one = { id: ++sequence, callback, values, held: true };
    immediates[immediates.length] = one;
    return new Immediate(one.id);
  };

  $.clearTimers = () => {
    timers = [];
    immediates = [];
  };

  /** Runs the next callback that is due, or waits for it. False when there is none. */
  $.runTimers = () => {
    const first = timers[0];
    if (first !== undefined && first.due <= now()) {
      $.splice(timers, 0, 1);
      if (first.repeated) start(first);
      apply(first.callback, undefined, first.values);
      return true;
    }
    if (immediates.length > 0) {
      const one = immediates[0];
      $.splice(immediates, 0, 1);
      apply(one.callback, undefined, one.values);
      return true;
    }
    for (const one of timers) {
      if (!one.held) continue;
      const wait = timers[0].due - now();
      if (wait > 0) sleep($.max(1, $.round(wait)));
      return true;
    }
    return false;
  };

  const settled = Promise.resolve();
  /** A callback that throws ends the run, as one of a timer does. */
  const queueMicrotask = (callback) => {
    needFunction(callback, "queueMicrotask");
    then(settled, () => {
      try {
        callback();
      } catch (problem) {
        $.fail(problem);
      }
    });
  };
  $.nextTick = (callback, ...values) => {
    needFunction(callback, "process.nextTick");
    queueMicrotask(() => apply(callback, undefined, values));
  };

  const setTimeout = (callback, delay, ...values) => set(callback, delay, values, false);
  const setInterval = (callback, delay, ...values) => set(callback, delay, values, true);
  const clearInterval = (handle) => clearTimeout(handle);
  const clearImmediate = (handle) => clearTimeout(handle);
  $.globals({ setTimeout, setInterval, setImmediate, clearTimeout, clearInterval, clearImmediate, queueMicrotask });

  const stopped = (signal) => signal.reason ?? new $.Error("The operation was aborted");
  const after = (ms, value, { signal } = {}) => new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(stopped(signal));
    const handle = setTimeout(() => resolve(value), ms);
    signal?.addEventListener?.("abort", () => {
      clearTimeout(handle);
      reject(stopped(signal));
    });
  });
  $.timersPromises = {
    setTimeout: after,
    setImmediate: (value) => new Promise((resolve) => setImmediate(resolve, value)),
    async *setInterval(ms, value) {
      for (;;) yield await after(ms, value);
    },
    scheduler: { wait: (ms, options) => after(ms, undefined, options), yield: () => after(0) },
  };
});
