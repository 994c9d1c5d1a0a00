// The screen of resource allocation; the same as games/scene_resource.py.

import { centre, half, theme } from "./assets.js";
import * as hud from "./hud.js";
import { Xorshift32 } from "./prng.js";
import { ORDERS } from "./resource.js";

const HINTS = { taps: "PICK, THEN PLACE", drag: "DRAG TO A FRONT", buttons: "SEND WITH + AND -" };

export function ground(painter, layout) {
  const tones = theme(layout.platform);
  const board = layout.board;
  const random = new Xorshift32(7, hud.SCENERY);
  painter.rect(...board.area, tones.ground);
  painter.speckle(board.area, 260, [tones.ground_light, tones.ground_dark, tones.grid], random);
  const flat = layout.platform === "desktop";
  const [x, y] = flat ? [board.x, board.y + 82] : [board.x + half(board.width) - 12, board.y];
  const [width, height] = flat ? [board.width, 24] : [24, board.height];
  const [insetX, insetY] = flat ? [0, 1] : [1, 0];
  painter.rect(x, y, width, height, tones.road_edge);
  painter.rect(x + insetX, y + insetY, width - 2 * insetX, height - 2 * insetY, tones.road);
  const trail = [x + 2 * insetX, y + 2 * insetY, width - 4 * insetX, height - 4 * insetY];
  painter.speckle(trail, 60, [tones.road_edge, tones.road_mark], random);
  for (const front of layout.boxes("fronts")) plate(painter, tones, front, random);
  hud.bar(painter, layout);
}

function plate(painter, tones, front, random) {
  const [x, y, width, height] = front;
  painter.rect(x + 2, y + height, width - 2, 2, tones.ground_dark);
  painter.bevel(front, tones.plate, tones.plate_light, tones.plate_dark, tones.ink);
  const count = Math.floor((width * height) / 90);
  painter.speckle([x + 3, y + 3, width - 6, height - 6], count, [tones.plate_light, tones.plate_dark], random);
}

export function figures(painter, layout, state, adversarial, code) {
  layout.boxes("fronts").forEach((front, number) => drawFront(painter, layout, front, number, state.demands[number]));
  note(painter, layout, state);
  const title = code ? `SUPPLY >${code}` : "SUPPLY";
  hud.heading(painter, layout, [title, `${ORDERS} ORDERS`, HINTS[layout.places.style]], adversarial);
  controls(painter, layout, state);
  hud.ending(painter, layout, state.outcome);
}

function drawFront(painter, layout, [x, y, width, height], number, demand) {
  const tones = theme(layout.platform);
  const tall = width < 100;
  painter.bevel([x + 4, y + 4, 12, 12], tones.paper, tones.button_light, tones.button_dark, tones.ink);
  painter.textAt(String(number + 1), x + 10, y + 10, tones.ink);
  const [fortX, fortY] = tall ? [x + half(width) + 6, y + 26] : [x + 40, y + half(height) + 5];
  painter.spriteAt("flag", "blue", fortX + 4, fortY - 13);
  painter.spriteAt("fort", "grey", fortX, fortY);
  const [needX, needY] = tall ? [x + 7, y + 42] : [x + 64, y + 6];
  painter.text("NEEDS", needX, needY, layout.platform === "desktop" ? tones.text : tones.ink);
  for (let place = 0; place < demand; place += 1) {
    const slot = [needX - 2 + place * 20, needY + 10, 18, 16];
    painter.bevel(slot, tones.card, tones.bar_dark, tones.bar_light, tones.ink);
    painter.spriteAt("helmet", "blue", slot[0] + 9, slot[1] + 8);
  }
}

function note(painter, layout, state) {
  const [units, front] = state.note;
  const box = layout.box("toast");
  if (units === 0 || !box) return;
  const tones = theme(layout.platform);
  painter.bevel(box, tones.paper, tones.button_light, tones.accent, tones.ink);
  const words = units > 0 ? `1 SENT TO FRONT ${front + 1}` : `1 BACK FROM ${front + 1}`;
  painter.textAt(words, ...centre(box), tones.ink);
}

function controls(painter, layout, state) {
  const tones = theme(layout.platform);
  const mobile = layout.platform === "mobile";
  const reserve = layout.box("reserve");
  const commit = layout.box("commit");
  if (reserve) {
    hud.button(painter, layout, reserve, mobile ? "" : "RESERVE", "crate");
    if (state.carrying) hud.frame(painter, reserve, tones.accent);
  }
  for (const [sign, name] of [["+", "plus"], ["-", "minus"]]) {
    layout.boxes(name).forEach((box, number) => {
      hud.button(painter, layout, box, sign);
      if (sign === "-") painter.text(`FRONT ${number + 1}`, box[0] + 2, box[1] - 10, tones.text);
    });
  }
  if (commit) hud.button(painter, layout, commit, ...(mobile ? ["", "check"] : ["COMMIT"]));
}
