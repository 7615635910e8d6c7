// Who the client is: a user, the name people see, and the token that proves it.

import { RoostError } from "./codes.js";

/** @typedef {{ user: string, name: string, token: string, expires: number }} Identity `expires` in ms since the epoch */

/**
 * Enters as a new guest.
 * @param {import("./env.js").Env} env
 * @param {string} base for example "https://chat.example/"
 * @param {string} name
 * @returns {Promise<Identity>}
 */
export async function enterAsGuest(env, base, name) {
  const reply = await post(env, new URL("v1/guest", base).href, { name });
  return { user: reply.user, name, token: reply.token, expires: reply.expires ?? 0 };
}

/**
 * Gets a newer token for the same user.
 * @param {import("./env.js").Env} env
 * @param {string} base
 * @param {Identity} identity
 * @returns {Promise<Identity>}
 */
export async function refresh(env, base, identity) {
  const reply = await post(env, new URL("v1/refresh", base).href, {}, identity.token);
  return { ...identity, token: reply.token, expires: reply.expires ?? 0 };
}

/**
 * @param {import("./env.js").Env} env
 * @param {string} url
 * @param {object} body
 * @param {string} [token]
 */
async function post(env, url, body, token) {
  /** @type {Record<string, string>} */
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  let response;
  try {
    response = await env.fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  } catch {
    throw RoostError.lost("The server cannot be reached.");
  }
  /** @type {any} */
  let reply = null;
  try {
    reply = await response.json();
  } catch {
    // Not JSON: the status has to do.
  }
  if (response.ok && reply?.token) return reply;
  const error = reply?.error ?? reply;
  if (typeof error?.code === "number") throw RoostError.of(error);
  if (response.status === 401 || response.status === 403) throw new RoostError(200, "token is not valid");
  throw new RoostError(response.status === 429 ? 400 : 503, `The server answered ${response.status}.`, { retryable: true });
}
