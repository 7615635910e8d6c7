// Builds elements. Text becomes text nodes, always: nothing a person wrote is ever parsed as markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * @param {string} tag "div" or "div.some.classes"
 * @param {Record<string, any>} [attributes] `onclick` and the like are listeners; false, null and undefined are left out
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  fill(element, ...children);
  return element;
}

/** Replaces the children of an element. @param {Element} element @param {...(Child | Child[])} children */
export function fill(element, ...children) {
  const nodes = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  element.replaceChildren(...nodes.map((child) => (child instanceof Node ? child : String(child))));
}

/** Outlines on a grid of 24. @type {Record<string, string>} */
const ICONS = {
  back: "M15 5l-7 7 7 7",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  send: "M4 12l16-8-5 16-3-7-8-1z",
  info: "M12 11v6M12 7.5v.1M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  pencil: "M4 20l1-4L16 5l3 3L8 19l-4 1z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  down: "M6 9l6 6 6-6",
  clock: "M12 7v5l3 2M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  sent: "M5 13l4 4L19 7",
  delivered: "M2 13l4 4L16 7M11 16l1 1L22 7",
  alert: "M12 8v5M12 16.5v.1M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  group: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c0-4 3-6 6.500-6s6.500 2 6.500 6M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14.500c2 .8 3.500 2.500 3.500 5.500",
  swap: "M4 8h13l-3-3M20 16H7l3 3",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.500 4.500",
};

const SVG = "http://www.w3.org/2000/svg";

/** A decorative icon; the button around it carries the label. @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name] ?? "");
  svg.append(path);
  return svg;
}

/** The bird, drawn once in index.html. @param {string} [classes] */
export function bird(classes = "bird") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 48 48");
  svg.setAttribute("class", classes);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", "#bird");
  svg.append(use);
  return svg;
}

/**
 * @param {string} name icon
 * @param {string} label
 * @param {(event: Event) => void} onclick
 * @param {string} [classes] for example ".quiet"
 */
export function iconButton(name, label, onclick, classes = "") {
  return h(`button.icon-button${classes}`, { type: "button", "aria-label": label, title: label, onclick }, icon(name));
}

/** Runs once after the current turn, however often it was asked for. @param {() => void} run */
export function gathered(run) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    queueMicrotask(() => {
      due = false;
      run();
    });
  };
}

/** A button that asks once more before it acts. @param {string} label @param {string} sure @param {() => void} act */
export function carefulButton(label, sure, act) {
  const button = h("button.danger", { type: "button" }, label);
  let armed = false;
  const disarm = () => {
    armed = false;
    fill(button, label);
  };
  button.addEventListener("click", () => {
    if (armed) return disarm(), act();
    armed = true;
    fill(button, sure);
  });
  button.addEventListener("blur", disarm);
  return button;
}
