// Target localisation; the same rules as games/target.py.

import { Xorshift32 } from "./prng.js";

export const KINDS = ["tank", "plane", "ship", "soldier"];
export const COLOURS = ["red", "blue", "yellow", "purple"];
export const TRIES = 3;
const FEWEST = 6;
const MOST = 10;

export function begin(seed, board) {
  const random = new Xorshift32(seed, 1);
  const count = FEWEST + random.below(MOST - FEWEST + 1);
  const looks = random.shuffled(KINDS.flatMap((kind) => COLOURS.map((colour) => [kind, colour])));
  const cells = random.shuffled(board.cells());
  const units = [];
  for (let number = 0; number < count; number += 1) {
    const [kind, colour] = looks[number];
    const [column, row] = cells[number];
    units.push({ kind, colour, column, row });
  }
  return [{ seed, units, target: random.below(count), selected: -1, tries: 0, outcome: "playing" }];
}

export function instruction(state) {
  const unit = state.units[state.target];
  return `Select the ${unit.colour} ${unit.kind}`;
}

export function apply(state, [name, column, row]) {
  if (name === "quit") return [{ ...state, outcome: "lost" }];
  let selected = state.selected;
  if (name === "select") selected = state.units.findIndex((unit) => unit.column === column && unit.row === row);
  else if (name === "clear") selected = -1;
  const tries = state.tries + 1;
  const outcome = selected === state.target ? "won" : tries >= TRIES ? "lost" : "playing";
  return [{ ...state, selected, tries, outcome }];
}
