// Values as text, the way people know it from Node: `util.inspect`.
casemate$part(($) => {
  "use strict";
  const { isArray, getPrototypeOf, getOwn, hasOwn, ownKeys, uncurry, slice, join, padStart, padEnd, repeat, includes } = $;
  const IDENTIFIER = /^[a-zA-Z_$][a-zA-Z_$0-9]*$/;
  const CUSTOM = Symbol.for("nodejs.util.inspect.custom");
  const isEnumerable = uncurry(Object.prototype.propertyIsEnumerable);
  const mapEntries = uncurry(Map.prototype.entries), setValues = uncurry(Set.prototype.values);
  const mapSize = uncurry(getOwn(Map.prototype, "size").get), setSize = uncurry(getOwn(Set.prototype, "size").get);
  const nextOf = (iterator) => uncurry(getPrototypeOf(iterator).next);
  const nextEntry = nextOf(new Map().entries()), nextValue = nextOf(new Set().values());
  const typedArrayName = uncurry(getOwn(getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get);
  const bufferSize = uncurry(getOwn(ArrayBuffer.prototype, "byteLength").get);
  const boxes = [["Number", uncurry(Number.prototype.valueOf)], ["String", uncurry(String.prototype.valueOf)],
    ["Boolean", uncurry(Boolean.prototype.valueOf)], ["BigInt", uncurry(BigInt.prototype.valueOf)],
    ["Symbol", uncurry(Symbol.prototype.valueOf)]];
  const weakMapHas = uncurry(WeakMap.prototype.has), weakSetHas = uncurry(WeakSet.prototype.has);
  const regexpToString = uncurry(RegExp.prototype.toString);
  const weakDeref = uncurry(WeakRef.prototype.deref);

  /** Whether a method of a class takes the value: true of its instances only, whatever their prototypes say. */
  const takes = (method, value, ...given) => {
    try {
      method(value, ...given);
      return true;
    } catch {
      return false;
    }
  };

  const { quoted, numberText, primitive } = $;

  const constructorName = (value) => {
    for (let object = value; object !== null; object = getPrototypeOf(object)) {
      const own = getOwn(object, "constructor");
      if (own !== undefined && typeof own.value === "function" && own.value.name !== "" && typeof own.value.name === "string") {
        return own.value.name;
      }
    }
    return null;
  };

  const tagOf = (value, name) => {
    let tag;
    try {
      tag = value[Symbol.toStringTag];
    } catch {}
    return typeof tag === "string" && tag !== "" && tag !== name ? ` [${tag}]` : "";
  };

  const prefix = (value, name, fallback, size = "") => {
    const tag = tagOf(value, name ?? fallback);
    if (name === null) return tag === " [Module]" ? "[Module: null prototype] " : `[${fallback}${size}: null prototype]${tag} `;
    return `${name}${size}${tag} `;
  };

  const visibleKeys = (how, value, isList) => {
    const keys = [];
    for (const key of ownKeys(value)) {
      // Elements come before all other keys, in order.
      if (isList && typeof key === "string" && `${key >>> 0}` === key) continue;
      if ((how.showHidden && (key !== "length" || isArray(value))) || isEnumerable(value, key)) keys[keys.length] = key;
    }
    if (how.sorted) $.sort(keys, (a, b) => typeof a === "symbol" || typeof b === "symbol" ? 0 : a < b ? -1 : 1);
    return keys;
  };

  const keyText = (key) => typeof key === "symbol" ? `[${$.symbolToString(key)}]` :
    key === "__proto__" ? "['__proto__']" : $.matches(IDENTIFIER, key) ? key : quoted(key);

  const property = (how, value, key, depth, isList) => {
    const own = getOwn(value, key) ?? { value: value[key] };
    let text;
    if (own.value !== undefined || !(own.get || own.set)) {
      how.indent += 2;
      text = format(how, own.value, depth);
      how.indent -= 2;
    } else text = own.get ? (own.set ? "[Getter/Setter]" : "[Getter]") : "[Setter]";
    if (isList) return text;
    const name = keyText(key);
    return `${getOwn(value, key)?.enumerable === false ? `[${name}]` : name}: ${text}`;
  };

  const more = (count, what = "item") => `... ${count} more ${what}${count > 1 ? "s" : ""}`;

  const arrayEntries = (how, value, depth) => {
    const entries = [];
    const { length } = value;
    let at = 0;
    while (at < length && entries.length < how.maxArrayLength) {
      if (hasOwn(value, at)) {
        entries[entries.length] = property(how, value, at++, depth, true);
        continue;
      }
      const from = at;
      // A hole of a billion elements is not walked through one by one.
      if (length - at > 100_000) {
        let next = length;
        for (const key of ownKeys(value)) {
          const index = typeof key === "string" ? key >>> 0 : -1;
          if (`${index}` === key && index >= at && index < next) next = index;
        }
        at = next;
      } else while (at < length && !hasOwn(value, at)) at++;
      entries[entries.length] = `<${at - from} empty item${at - from > 1 ? "s" : ""}>`;
    }
    if (at < length) entries[entries.length] = more(length - at);
    return entries;
  };

  // Many short elements stand in columns.
  const grouped = (how, entries, value) => {
    let total = 0, longest = 0;
    const count = entries.length - (value.length > how.maxArrayLength ? 1 : 0);
    for (let i = 0; i < count; i++) {
      total += entries[i].length + 2;
      if (entries[i].length > longest) longest = entries[i].length;
    }
    const widest = longest + 2;
    if (!(widest * 3 + how.indent < how.breakLength && (total / widest > 5 || longest <= 6))) return entries;
    const bias = $.sqrt(widest - total / entries.length);
    const biased = $.max(widest - 3 - bias, 1);
    // A character is about two and a half times as high as it is wide.
    const columns = $.min($.round($.sqrt(2.5 * biased * count) / biased),
      $.floor((how.breakLength - how.indent) / widest), how.compact * 4, 15);
    if (columns <= 1) return entries;
    const widths = [];
    for (let column = 0; column < columns; column++) {
      let width = 0;
      for (let i = column; i < count; i += columns) if (entries[i].length > width) width = entries[i].length;
      widths[column] = width + 2;
    }
    let pad = padStart;
    for (let i = 0; i < count; i++) {
      if (typeof value[i] !== "number" && typeof value[i] !== "bigint") {
        pad = padEnd;
        break;
      }
    }
    const rows = [];
    for (let i = 0; i < count; i += columns) {
      const end = $.min(i + columns, count);
      let row = "";
      let at = i;
      for (; at < end - 1; at++) row += pad(`${entries[at]}, `, widths[at - i], " ");
      row += pad === padStart ? padStart(entries[at], widths[at - i] - 2, " ") : entries[at];
      rows[rows.length] = row;
    }
    if (count < entries.length) rows[rows.length] = entries[count];
    return rows;
  };

  const layOut = (how, entries, base, open, close, isList, depth, value) => {
    const before = entries.length;
    if (typeof how.compact === "number") {
      if (isList && before > 6) entries = grouped(how, entries, value);
      if (how.current - depth < how.compact && entries.length === before) {
        let width = entries.length + how.indent + open.length + base.length + 10;
        width += entries.length;
        let fits = width <= how.breakLength;
        for (let i = 0; fits && i < entries.length; i++) {
          width += entries[i].length;
          fits = width <= how.breakLength && !includes(entries[i], "\n");
        }
        if (fits && !includes(base, "\n")) return `${base ? `${base} ` : ""}${open} ${join(entries, ", ")} ${close}`;
      }
    }
    const indent = `\n${repeat(" ", how.indent)}`;
    return `${base ? `${base} ` : ""}${open}${indent}  ${join(entries, `,${indent}  `)}${indent}${close}`;
  };

  const functionBase = (value, name) => {
    const source = $.functionToString(value);
    if ($.startsWith(source, "class") && $.endsWith(source, "}")) {
      let text = `[class ${hasOwn(value, "name") && value.name ? value.name : "(anonymous)"}`;
      if (name !== "Function" && name !== null) text += ` [${name}]`;
      const parent = getPrototypeOf(value);
      if (typeof parent === "function" && parent.name) text += ` extends ${parent.name}`;
      else if (parent === null) text += " extends null";
      return `${text}]`;
    }
    const kind = name === "AsyncFunction" || name === "GeneratorFunction" || name === "AsyncGeneratorFunction" ? name : "Function";
    let text = `[${kind}${typeof value.name === "string" && value.name !== "" ? `: ${value.name}` : " (anonymous)"}]`;
    if (name === null) text += " null prototype";
    return text;
  };

  const errorBase = (how, value) => {
    let text;
    try {
      text = $.errorText(value);
    } catch {
      text = "[Error]";
    }
    if (how.indent > 0) text = $.replaceAll(text, "\n", `\n${repeat(" ", how.indent)}`);
    return text;
  };

  const extraErrorKeys = (value, keys) => {
    const shown = [];
    for (const key of keys) {
      if ((key === "name" || key === "message" || key === "stack") && includes($.errorText(value), `${value[key]}`)) continue;
      shown[shown.length] = key;
    }
    if (hasOwn(value, "cause") && !isEnumerable(value, "cause")) shown[shown.length] = "cause";
    if (isArray(value.errors) && hasOwn(value, "errors") && !isEnumerable(value, "errors")) shown[shown.length] = "errors";
    return shown;
  };

  const indented = (how, value, depth) => {
    how.indent += 2;
    const text = format(how, value, depth);
    how.indent -= 2;
    return text;
  };

  const collected = (how, next, iterator, size, depth, isMap) => {
    const entries = [];
    for (let step = next(iterator); !step.done; step = next(iterator)) {
      if (entries.length >= how.maxArrayLength) {
        entries[entries.length] = more(size - entries.length);
        break;
      }
      entries[entries.length] = isMap
        ? `${indented(how, step.value[0], depth)} => ${indented(how, step.value[1], depth)}`
        : indented(how, step.value, depth);
    }
    return entries;
  };

  const bytesEntries = (how, buffer) => {
    const bytes = new Uint8Array(buffer);
    const shown = $.min(bytes.length, 50);
    let text = "";
    for (let i = 0; i < shown; i++) text += (i ? " " : "") + padStart($.numberToString(bytes[i], 16), 2, "0");
    if (bytes.length > shown) text += ` ... ${bytes.length - shown} more byte${bytes.length - shown > 1 ? "s" : ""}`;
    return [`[Uint8Contents]: <${text}>`, `byteLength: ${bytes.length}`];
  };

  const object = (how, value, depth) => {
    const name = constructorName(value);
    let open = "{", close = "}", base = "", entries = null, isList = false, keys;
    const typed = typedArrayName(value);
    if (isArray(value)) {
      isList = true;
      keys = visibleKeys(how, value, true);
      open = name === "Array" && tagOf(value, "Array") === "" ? "[" : `${prefix(value, name, "Array", `(${value.length})`)}[`;
      close = "]";
      if (value.length === 0 && keys.length === 0) return `${open}]`;
      entries = () => arrayEntries(how, value, depth);
    } else if (typed !== undefined) {
      isList = true;
      keys = visibleKeys(how, value, true);
      open = `${prefix(value, name, typed, `(${value.length})`)}[`;
      close = "]";
      if (value.length === 0 && keys.length === 0) return `${open}]`;
      entries = () => {
        const shown = $.min(value.length, how.maxArrayLength);
        const texts = [];
        for (let i = 0; i < shown; i++) texts[i] = typeof value[i] === "bigint" ? `${value[i]}n` : numberText(value[i]);
        if (shown < value.length) texts[shown] = more(value.length - shown);
        return texts;
      };
    } else {
      keys = visibleKeys(how, value, false);
      if (takes(setSize, value)) {
        const size = setSize(value);
        open = `${prefix(value, name, "Set", `(${size})`)}{`;
        if (size === 0 && keys.length === 0) return `${open}}`;
        entries = () => collected(how, nextValue, setValues(value), size, depth, false);
      } else if (takes(mapSize, value)) {
        const size = mapSize(value);
        open = `${prefix(value, name, "Map", `(${size})`)}{`;
        if (size === 0 && keys.length === 0) return `${open}}`;
        entries = () => collected(how, nextEntry, mapEntries(value), size, depth, true);
      } else if (typeof value === "function") {
        base = functionBase(value, name);
        if (keys.length === 0) return base;
      } else if ($.isError(value)) {
        base = errorBase(how, value);
        keys = extraErrorKeys(value, keys);
        if (keys.length === 0) return base;
      } else if (takes($.getTime, value)) {
        const time = $.getTime(value);
        base = time === time ? $.toISOString(value) : "Invalid Date";
        if (keys.length === 0) return base;
      } else if (takes($.exec, value, "") && value instanceof RegExp) {
        base = regexpToString(value);
        if (keys.length === 0) return base;
      } else if (takes(bufferSize, value)) {
        open = `${prefix(value, name, "ArrayBuffer")}{`;
        entries = () => bytesEntries(how, value);
      } else if ($.isPromise(value)) {
        open = `${prefix(value, name, "Promise")}{`;
        entries = () => [$.promiseText?.(how, value, depth) ?? "<pending>"];
      } else if (takes(weakMapHas, value, {})) return `${prefix(value, name, "WeakMap")}{ <items unknown> }`;
      else if (takes(weakSetHas, value, {})) return `${prefix(value, name, "WeakSet")}{ <items unknown> }`;
      else if (takes(weakDeref, value)) return `${prefix(value, name, "WeakRef")}{ ${format(how, weakDeref(value), depth)} }`;
      else {
        const box = boxes.find(([, unbox]) => takes(unbox, value));
        if (box !== undefined) {
          const inner = box[1](value);
          base = `[${box[0]}${name !== box[0] ? name === null ? " (null prototype)" : ` (${name})` : ""}: ${primitive({ ...how, breakLength: Infinity }, inner)}]`;
          if (box[0] === "String") keys = keys.filter((key) => typeof key !== "string" || `${key >>> 0}` !== key);
          if (keys.length === 0) return base;
        } else {
          const isArguments = $.objectToString(value) === "[object Arguments]";
          if (isArguments) {
            isList = true;
            open = "[Arguments] [";
            close = "]";
            keys = visibleKeys(how, value, true);
            entries = () => arrayEntries(how, value, depth);
            if (value.length === 0 && keys.length === 0) return `${open}]`;
          } else {
            const plain = name === "Object" && tagOf(value, "Object") === "";
            if (!plain) open = `${prefix(value, name, "Object")}{`;
            if (keys.length === 0) return `${open}}`;
          }
        }
      }
    }
    if (depth > how.depth) {
      const shown = $.trim($.slice(open, 0, -1));
      return `[${isArray(value) && name === "Array" ? "Array" : shown === "" ? name ?? "Object: null prototype" : $.replace(shown, /\(\d+\)/, "")}]`;
    }
    depth++;
    how.seen[how.seen.length] = value;
    how.current = depth;
    const texts = entries === null ? [] : entries();
    for (const key of keys) texts[texts.length] = property(how, value, key, depth, false);
    how.seen.length--;
    const mark = how.circular && $.mapGet(how.circular, value);
    if (mark !== undefined && mark !== null) {
      const reference = `<ref *${mark}>`;
      if (base === "") open = `${reference} ${open}`;
      else base = `${reference} ${base}`;
    }
    how.spent += texts.length;
    return layOut(how, texts, base, open, close, isList && entries !== null, depth, value);
  };

  const format = (how, value, depth) => {
    if (value === null || (typeof value !== "object" && typeof value !== "function")) return primitive(how, value);
    if (how.spent > how.maxEntries) return "[...]";
    const proxied = $.isProxy?.(value);
    if (proxied) return "[Proxy]";
    if (how.customInspect) {
      let custom;
      try {
        custom = value[CUSTOM];
      } catch {}
      if (typeof custom === "function" && custom !== inspect) {
        const result = $.apply(custom, value, [how.depth - depth, { ...how.given, depth: how.depth - depth }, inspect]);
        if (result !== value) {
          if (typeof result !== "object" || result === null) return $.replaceAll(`${result}`, "\n", `\n${repeat(" ", how.indent)}`);
          return format(how, result, depth);
        }
      }
    }
    for (const one of how.seen) {
      if (one === value) {
        how.circular ??= new $.Map();
        if (!$.mapHas(how.circular, value)) $.mapSet(how.circular, value, ++how.references);
        return `[Circular *${$.mapGet(how.circular, value)}]`;
      }
    }
    return object(how, value, depth);
  };

  const DEFAULTS = {
    __proto__: null, depth: 2, maxArrayLength: 100, maxStringLength: 10000, breakLength: 80, compact: 3, sorted: false,
    showHidden: false, customInspect: true,
  };

  /** The text of a value. Options as Node's: depth, maxArrayLength, maxStringLength, breakLength, compact, sorted, showHidden. */
  function inspect(value, options) {
    const how = {
      __proto__: null, ...DEFAULTS, given: options, indent: 0, seen: [], circular: undefined, references: 0, current: 0,
      // Whatever is printed, its text stays bounded.
      spent: 0, maxEntries: 100_000,
    };
    if (typeof options === "object" && options !== null) {
      for (const name of $.keys(DEFAULTS)) if (options[name] !== undefined) how[name] = options[name];
    }
    for (const name of ["depth", "maxArrayLength", "maxStringLength"]) if (how[name] === null) how[name] = Infinity;
    if (how.compact === false) how.compact = 0;
    return format(how, value, 0);
  }
  inspect.custom = CUSTOM;
  inspect.defaultOptions = DEFAULTS;

  $.isError = (value) => Error.isError?.(value) ?? value instanceof Error;
  $.isPromise = (value) => {
    if (typeof value !== "object" || value === null) return false;
    return $.objectToString(value) === "[object Promise]" && value instanceof $.Promise;
  };
  $.inspect = inspect;
});
