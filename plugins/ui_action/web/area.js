// Area control; the same rules as games/area.py.

import { Xorshift32 } from "./prng.js";

export const SECTORS = 4;
export const LANE = 16;
export const NEEDED = 3;
const PERIOD = 4;
const END_TICK = 40;

const goal = (convoy) => (convoy.heading > 0 ? (convoy.lane + 1) % SECTORS : convoy.lane);
const left = (convoy, position) => (convoy.heading > 0 ? LANE - position : position);

function drawn(random, lane) {
  const heading = 1 - 2 * random.below(2);
  const fast = random.below(4) > 0;
  const middle = random.below(4) > 0;
  const quarter = heading > 0 ? LANE / 4 : LANE - LANE / 4;
  return { lane, at: middle ? LANE / 2 : quarter, heading, speed: fast ? 2 : 1 };
}

function drawnSchedule(random) {
  const convoys = [];
  let lane = random.below(SECTORS);
  for (let number = 0; number < END_TICK / PERIOD; number += 1) {
    convoys.push(drawn(random, lane));
    lane = (lane + 1 + random.below(SECTORS - 1)) % SECTORS;
  }
  return convoys;
}

function withinReach(schedule) {
  const goals = new Set();
  let actions = END_TICK / PERIOD;
  for (const convoy of schedule) {
    actions -= Math.ceil(left(convoy, convoy.at) / (PERIOD * convoy.speed));
    if (actions < 0) break;
    goals.add(goal(convoy));
  }
  return goals.size >= NEEDED;
}

export function begin(seed) {
  const random = new Xorshift32(seed, 1);
  let schedule = drawnSchedule(random);
  while (!withinReach(schedule)) schedule = drawnSchedule(random);
  const held = Array(SECTORS).fill(false);
  return period({ seed, schedule, road: [], sent: 0, held, garrison: -1, tick: -PERIOD, outcome: "playing" });
}

export function instruction() {
  return "Man the sector that the convoy is about to enter, hold three of four";
}

export function apply(state, [name, sector]) {
  if (name === "quit") return [{ ...state, outcome: "lost" }];
  return period({ ...state, garrison: name === "capture" ? sector : -1 });
}

function period(state) {
  const states = [];
  for (let number = 1; number <= PERIOD; number += 1) {
    state = tick(state, number);
    states.push(state);
  }
  return states;
}

function tick(state, number) {
  const road = [];
  const held = [...state.held];
  for (const [which, before] of state.road) {
    const convoy = state.schedule[which];
    const position = before + convoy.heading * convoy.speed;
    if (left(convoy, position) > 0) road.push([which, position]);
    else held[goal(convoy)] = goal(convoy) === state.garrison;
  }
  let sent = state.sent;
  if (number === PERIOD / 2 && sent < state.schedule.length && soonEmpty(state, road)) {
    const convoy = state.schedule[sent];
    road.push([sent, convoy.at - (PERIOD - number) * convoy.heading * convoy.speed]);
    sent += 1;
  }
  const now = state.tick + 1;
  const count = held.filter(Boolean).length;
  const outcome = now < END_TICK ? "playing" : count >= NEEDED ? "won" : "lost";
  return { ...state, road, sent, held, garrison: number === PERIOD ? -1 : state.garrison, tick: now, outcome };
}

function soonEmpty(state, road) {
  const ticks = PERIOD / 2;
  return road.every(([which, at]) => left(state.schedule[which], at) <= ticks * state.schedule[which].speed);
}
