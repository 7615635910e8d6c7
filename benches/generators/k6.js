// What k6 is asked to do: a few virtual users with many sockets each, which is the cheapest way it has. `MODE=connect`: sockets are opened at a
// rate and held; `MODE=echo`: each has one text under way.
import { WebSocket } from "k6/websockets";

const [sockets, perSecond, seconds] = [__ENV.SOCKETS, __ENV.PER_SECOND, __ENV.SECONDS].map(Number);
const users = Math.min(10, sockets);
const text = "x".repeat(128);

export const options = {
  scenarios: { all: { executor: "per-vu-iterations", vus: users, iterations: 1, maxDuration: "10m" } },
};

export default function () {
  for (let n = __VU - 1; n < sockets; n += users) setTimeout(open, (n / perSecond) * 1000);
}

function open() {
  const socket = new WebSocket(__ENV.URL);
  socket.onopen = () => {
    setTimeout(() => socket.close(), seconds * 1000);
    if (__ENV.MODE === "echo") socket.send(text);
  };
  socket.onmessage = () => socket.send(text);
}
