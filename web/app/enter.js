// The first screen: a name, and in.

import { avatar } from "./avatar.js";
import { fill, h } from "./dom.js";
import { NAME_BYTES_MAX, known, nameBytes, names, tidy } from "./names.js";

/** Names offered for one click. */
const OFFERED_MAX = 5;

/**
 * @param {HTMLElement} screen in index.html
 * @param {(name: string) => Promise<void>} enter throws if it cannot be
 * @param {string} [why] said above the form
 */
export function showEnter(screen, enter, why = "") {
  const form = /** @type {HTMLFormElement} */ (screen.querySelector("form"));
  const input = /** @type {HTMLInputElement} */ (screen.querySelector("input"));
  const button = /** @type {HTMLButtonElement} */ (screen.querySelector("button[type=submit]"));
  const problem = /** @type {HTMLElement} */ (screen.querySelector(".problem"));
  const offered = /** @type {HTMLElement} */ (screen.querySelector(".offered"));
  screen.hidden = false;
  fill(problem, why);

  /** @param {string} text */
  const go = async (text) => {
    const name = tidy(text);
    if (!name) return say("Please enter a name first.");
    if (nameBytes(name) > NAME_BYTES_MAX) return say("This name is too long.");
    say("");
    button.disabled = true;
    try {
      await enter(name);
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    } finally {
      button.disabled = false;
    }
  };
  /** @param {string} text */
  const say = (text) => {
    fill(problem, text);
    input.setAttribute("aria-invalid", String(text !== ""));
    if (text) input.focus();
  };

  form.onsubmit = (event) => {
    event.preventDefault();
    void go(input.value);
  };
  const here = names().slice(0, OFFERED_MAX);
  fill(
    offered,
    here.length > 0 && h("p.dim", {}, "Or go on as"),
    ...here.map((name) =>
      h("button.chip", { type: "button", onclick: () => go(name) }, avatar(known(name)?.user ?? name, name, { small: true }), h("span", { dir: "auto" }, name)),
    ),
  );
  input.value = "";
  input.focus();
}
