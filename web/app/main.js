// Begins: with the first screen, or with the chat of the name this tab is in as.

import { enterAsGuest, systemEnv } from "../sdk/index.js";
import { RoostError } from "../sdk/codes.js";
import { Chat } from "./chat.js";
import { showEnter } from "./enter.js";
import { current, forget, keep, known, setCurrent } from "./names.js";

const screen = /** @type {HTMLElement} */ (document.getElementById("enter"));
/** @type {Chat | null} */
let chat = null;

function close() {
  chat?.end();
  chat = null;
}

/** @param {string} [why] */
function first(why) {
  close();
  setCurrent(null);
  showEnter(screen, enter, why);
}

/** A name this browser knows goes on; any other one is a new guest. @param {string} name */
async function enter(name) {
  let identity = known(name);
  if (!identity) {
    try {
      identity = await enterAsGuest(systemEnv, new URL("/", location.href).href, name);
    } catch (error) {
      throw error instanceof RoostError ? new Error(error.code === 104 ? "This name cannot be used." : error.meaning) : error;
    }
    keep(name, identity);
  }
  open(name, identity);
}

/** @param {string} name @param {import("../sdk/identity.js").Identity} identity */
function open(name, identity) {
  setCurrent(name);
  screen.hidden = true;
  chat = new Chat(name, identity, {
    leave: first,
    forget: () => {
      close(); // it keeps what it holds when it ends
      forget(name);
      first();
    },
    refused: (why) => {
      // The token is of no use any more; the name can be entered afresh.
      close();
      forget(name);
      first(`${why} Enter your name to start afresh.`);
    },
  });
  document.body.append(chat.element);
}

const name = current();
const identity = name ? known(name) : null;
if (name && identity) open(name, identity);
else first();
