// The Roost SDK for browsers and node: everything a page needs to talk to a Roost server. See README.md beside it.

export { Client } from "./client.js";
export { Connection } from "./connection.js";
export { RoostError, shouldReconnect } from "./codes.js";
export { systemEnv, uuidv7 } from "./env.js";
export { enterAsGuest, refresh } from "./identity.js";
export { Log } from "./log.js";
export { Outbox } from "./outbox.js";
export { memoryStorage, webStorage } from "./storage.js";
