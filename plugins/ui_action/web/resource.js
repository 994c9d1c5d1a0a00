// Resource allocation; the same rules as games/resource.py.

import { Xorshift32 } from "./prng.js";

const FRONTS = 3;
export const ORDERS = 8;
const STEPS = 24;

export function begin(seed) {
  const random = new Xorshift32(seed, 1);
  const demands = Array(FRONTS).fill(2);
  if (random.below(2)) demands[random.below(FRONTS)] = 1;
  const sent = [1, 0, 0];
  return [{ seed, demands, sent, carrying: false, note: [1, 0], orders: 0, steps: 0, outcome: "playing" }];
}

export function instruction() {
  return "Send every front exactly what it needs, then commit";
}

export function apply(state, [name, front]) {
  if (name === "quit") return [{ ...state, outcome: "lost" }];
  let after = { ...state, steps: state.steps + 1 };
  if (name === "pick") {
    after.carrying = !state.carrying;
  } else if (name === "send" || name === "recall") {
    after = ordered(after, front, name === "send" ? 1 : -1);
  } else if (name === "commit") {
    const met = state.demands.every((demand, number) => demand === state.sent[number]);
    after = { ...after, carrying: false, note: [0, 0], orders: state.orders + 1, outcome: met ? "won" : "lost" };
  } else {
    after = { ...after, carrying: false, note: [0, 0] };
  }
  if (after.outcome === "playing" && (after.orders >= ORDERS || after.steps >= STEPS)) after.outcome = "lost";
  return [after];
}

function ordered(state, front, units) {
  if (state.sent[front] + units < 0) return { ...state, carrying: false, note: [0, 0] };
  const sent = state.sent.map((count, number) => count + (number === front ? units : 0));
  return { ...state, sent, carrying: false, note: [units, front], orders: state.orders + 1 };
}
