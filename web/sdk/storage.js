// What must outlive the page: small strings by key.

/**
 * @typedef {object} Storage
 * @property {(key: string) => string | null} get
 * @property {(key: string, value: string) => boolean} set false: not kept (full, or forbidden by the browser)
 * @property {(key: string) => void} remove
 * @property {(prefix: string) => string[]} keys
 */

/** Forgets with the page. @returns {Storage} */
export function memoryStorage() {
  /** @type {Map<string, string>} */
  const map = new Map();
  return {
    get: (key) => map.get(key) ?? null,
    set: (key, value) => (map.set(key, value), true),
    remove: (key) => void map.delete(key),
    keys: (prefix) => [...map.keys()].filter((key) => key.startsWith(prefix)),
  };
}

/**
 * Over localStorage or sessionStorage. What the browser refuses to keep is held in memory, so callers need not care.
 * @param {() => globalThis.Storage} open throws where the browser forbids storage
 * @returns {Storage}
 */
export function webStorage(open) {
  const memory = memoryStorage();
  /** @type {globalThis.Storage | null} */
  let web = null;
  try {
    web = open();
  } catch {
    return { ...memory, set: (key, value) => (memory.set(key, value), false) };
  }
  const kept = web;
  return {
    get: (key) => memory.get(key) ?? kept.getItem(key),
    set: (key, value) => {
      try {
        kept.setItem(key, value);
        memory.remove(key);
        return true;
      } catch {
        memory.set(key, value);
        return false;
      }
    },
    remove: (key) => {
      memory.remove(key);
      kept.removeItem(key);
    },
    keys: (prefix) => {
      const found = new Set(memory.keys(prefix));
      for (let place = 0; place < kept.length; place++) {
        const key = kept.key(place);
        if (key?.startsWith(prefix)) found.add(key);
      }
      return [...found];
    },
  };
}
