// From an event on the screen to a command of the rules; the same as games/controls.py.

import { half, holds } from "./assets.js";

const IDLE = ["idle"];
export const CODE_LENGTH = 2;

export function pointed(layout, state, event) {
  if (layout.task === "resource-allocation") return allocate(layout, state, event);
  if (event.kind === "double_tap") return null;
  return layout.task === "target-localisation" ? locate(layout, event) : control(layout, event);
}

export function typed(layout, code) {
  if (layout.task === "resource-allocation") return code === "" ? ["commit"] : IDLE;
  if (layout.task === "area-control") return /^[A-D]$/.test(code) ? ["capture", code.charCodeAt(0) - 65] : IDLE;
  if (/^[A-Z][1-9]$/.test(code)) {
    const [column, row] = [code.charCodeAt(0) - 65, Number(code[1]) - 1];
    if (layout.board.cells().some((cell) => cell[0] === column && cell[1] === row)) return ["select", column, row];
  }
  return IDLE;
}

function locate(layout, { kind, x, y }) {
  const clear = layout.box("clear");
  if (kind === "secondary_tap" || (kind === "tap" && clear && holds(clear, x, y))) return ["clear"];
  if (kind === "tap" || kind === "long_press") {
    for (const [column, row] of layout.board.cells()) {
      if (holds(layout.board.box(column, row), x, y)) return ["select", column, row];
    }
  }
  return IDLE;
}

const hit = (boxes, x, y) => boxes.findIndex((box) => holds(box, x, y));

function allocate(layout, state, { kind, x, y, endX, endY }) {
  const style = layout.places.style;
  const reserve = layout.box("reserve");
  const commit = layout.box("commit");
  const front = hit(layout.boxes("fronts"), x, y);
  if (kind === "tap" || kind === "double_tap") {
    if (commit && holds(commit, x, y)) return ["commit"];
    for (const [command, name] of [["send", "plus"], ["recall", "minus"]]) {
      const button = hit(layout.boxes(name), x, y);
      if (button >= 0) return [command, button];
    }
    if (style === "taps" && reserve && holds(reserve, x, y)) return ["pick"];
    if (style === "taps" && state.carrying && front >= 0) return ["send", front];
  } else if (kind === "drag" && style !== "buttons") {
    const goal = hit(layout.boxes("fronts"), endX, endY);
    if (reserve && holds(reserve, x, y) && goal >= 0) return ["send", goal];
  } else if ((kind === "secondary_tap" || kind === "long_press") && style !== "buttons" && front >= 0) {
    return ["recall", front];
  }
  return IDLE;
}

function control(layout, { kind, x, y }) {
  const side = half(layout.places.plate);
  if (kind === "tap" || kind === "long_press") {
    const inside = (offset) => -side <= offset && offset < side;
    const sector = layout.places.sectors.findIndex((point) => inside(x - point[0]) && inside(y - point[1]));
    if (sector >= 0) return ["capture", sector];
  }
  return IDLE;
}
