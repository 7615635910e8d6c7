// How the connection does, said calmly. Nothing is said while all is well.

import { CLOSE } from "../sdk/codes.js";
import { fill, h } from "./dom.js";

/** A short interruption is nobody's business. */
const SAY_AFTER_MS = 400;

export class Status {
  #client;
  #text = h("span");
  #act = h("button.link", { type: "button", hidden: true });
  element = h("div.status", { role: "status", hidden: true }, h("span.pulse"), this.#text, this.#act);
  /** @type {any} */
  #tick = null;
  /** @type {any} */
  #soon = null;
  /** @type {(() => void)[]} */
  #ends;

  /** @param {import("../sdk/client.js").Client} client */
  constructor(client) {
    this.#client = client;
    const draw = () => this.#changed();
    window.addEventListener("online", draw);
    window.addEventListener("offline", draw);
    this.#ends = [
      client.on("state", draw),
      () => window.removeEventListener("online", draw),
      () => window.removeEventListener("offline", draw),
    ];
    this.#changed();
  }

  end() {
    for (const end of this.#ends) end();
    clearInterval(this.#tick);
    clearTimeout(this.#soon);
  }

  #changed() {
    clearInterval(this.#tick);
    clearTimeout(this.#soon);
    const { name, way } = this.#client.state;
    this.element.dataset.way = way ?? "";
    if (name === "online") return this.#hide();
    if (name === "waiting") this.#tick = setInterval(() => this.#draw(), 500);
    if (this.element.hidden) this.#soon = setTimeout(() => this.#draw(), SAY_AFTER_MS);
    else this.#draw();
  }

  #hide() {
    this.element.hidden = true;
  }

  #draw() {
    const { state } = this.#client;
    if (state.name === "online") return this.#hide();
    this.element.hidden = false;
    this.#act.hidden = true;
    if (state.name === "stopped" && state.code === CLOSE.REPLACED) {
      this.#say("Roost is open in another window.", "Use it here", () => this.#client.start());
    } else if (state.name === "stopped") {
      this.#say(state.error?.meaning ?? "Disconnected.", "Connect", () => this.#client.start());
    } else if (!navigator.onLine) {
      this.#say("Offline. Your messages wait here.");
    } else if (state.name === "waiting") {
      const seconds = Math.max(1, Math.ceil(((state.retryAt ?? 0) - Date.now()) / 1000));
      this.#say(`Reconnecting in ${seconds} s. Your messages wait here.`, "Now", () => this.#client.nudge());
    } else {
      this.#say("Connecting…");
    }
  }

  /** @param {string} text @param {string} [label] @param {() => void} [act] */
  #say(text, label, act) {
    if (this.#text.textContent !== text) fill(this.#text, text);
    this.#act.hidden = !label;
    fill(this.#act, label ?? "");
    this.#act.onclick = act ?? null;
  }
}
