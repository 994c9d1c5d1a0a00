// The screen of area control; the same as games/scene_area.py.

import { LANE, NEEDED, SECTORS } from "./area.js";
import { half, theme } from "./assets.js";
import * as hud from "./hud.js";
import { Xorshift32 } from "./prng.js";

const ROAD = 14;

function place(layout, lane, position) {
  const [x, y] = layout.places.sectors[lane];
  const [endX, endY] = layout.places.sectors[(lane + 1) % SECTORS];
  return [x + Math.floor(((endX - x) * position) / LANE), y + Math.floor(((endY - y) * position) / LANE)];
}

export function ground(painter, layout) {
  const tones = theme(layout.platform);
  const board = layout.board;
  const random = new Xorshift32(11, hud.SCENERY);
  painter.rect(...board.area, tones.ground);
  painter.speckle(board.area, 260, [tones.ground_light, tones.ground_dark, tones.grid], random);
  for (const [colour, width] of [[tones.road_edge, ROAD], [tones.road, ROAD - 2]]) {
    for (let lane = 0; lane < SECTORS; lane += 1) drawLane(painter, layout, lane, width, colour);
  }
  for (let lane = 0; lane < SECTORS; lane += 1) {
    for (let position = 2; position < LANE - 1; position += 1) {
      const [x, y] = place(layout, lane, position);
      painter.rect(x - 1, y - 1, 2, 2, tones.road_mark);
    }
  }
  middle(painter, layout, random);
  hud.bar(painter, layout);
  hud.garden(painter, layout);
}

function drawLane(painter, layout, lane, width, colour) {
  const ends = [layout.places.sectors[lane], layout.places.sectors[(lane + 1) % SECTORS]];
  if (ends[0][1] === ends[1][1]) {
    const left = Math.min(ends[0][0], ends[1][0]);
    painter.rect(left, ends[0][1] - half(width), Math.abs(ends[1][0] - ends[0][0]), width, colour);
    return;
  }
  const [[x, y], [endX, endY]] = ends.sort((one, other) => one[1] - other[1]);
  for (let row = y; row < endY; row += 1) {
    painter.span(x + Math.floor(((endX - x) * (row - y)) / (endY - y)) - half(width), row, width, colour);
  }
}

function middle(painter, layout, random) {
  const tones = theme(layout.platform);
  const points = layout.places.sectors;
  const [x, y] = [0, 1].map((axis) => Math.floor(points.reduce((sum, point) => sum + point[axis], 0) / SECTORS));
  const halfX = Math.floor((points[1][0] - points[0][0]) / 4);
  const halfY = Math.floor((points[2][1] - points[1][1]) / 4);
  for (const [inset, tone] of [[0, tones.shore], [2, tones.water_dark], [3, tones.water]]) {
    for (let row = -halfY + inset; row <= halfY - inset; row += 1) {
      const reach = halfX - inset - Math.max(0, 12 - (halfY - Math.abs(row)) * 2);
      painter.span(x - reach, y + row, 2 * reach + 1, tone);
    }
  }
  const inside = [x - halfX + 12, y - halfY + 8, 2 * halfX - 24, 2 * halfY - 16];
  painter.speckle(inside, 24, [tones.water_light, tones.water_dark], random);
  for (let tree = 0; tree < 8; tree += 1) {
    const side = tree % 2 ? -1 : 1;
    const shore = tree % 4 < 2 ? 1 : -1;
    const treeX = x + side * (halfX - 4 - random.below(halfX));
    painter.spriteAt("tree", "grey", treeX, y + shore * (halfY - 2));
  }
  painter.spriteAt("rock", "grey", x + half(halfX), y + 2);
}

export function figures(painter, layout, state, adversarial, code) {
  const tones = theme(layout.platform);
  for (const [which, position] of state.road) {
    const [x, y] = place(layout, state.schedule[which].lane, position);
    painter.rect(x - 6, y + 7, 13, 1, tones.road_edge);
    painter.spriteAt("convoy", "red", x, y);
  }
  layout.places.sectors.forEach(([x, y], number) => sector(painter, layout, [number, x, y], state));
  const title = code ? `CONTROL >${code}` : "CONTROL";
  const held = state.held.filter(Boolean).length;
  hud.heading(painter, layout, [title, `HELD ${held}/${SECTORS}`, `HOLD ${NEEDED} SECTORS`], adversarial);
  card(painter, layout, state);
  const rest = layout.box("pass");
  if (rest) hud.button(painter, layout, rest, ...(layout.platform === "mobile" ? ["", "hourglass"] : ["WAIT"]));
  hud.ending(painter, layout, state.outcome);
}

const letter = (number) => String.fromCharCode(65 + number);

function sector(painter, layout, [number, x, y], state) {
  const tones = theme(layout.platform);
  const side = layout.places.plate;
  const plate = [x - half(side), y - half(side), side, side];
  painter.bevel(plate, tones.plate, tones.plate_light, tones.plate_dark, tones.ink);
  painter.spriteAt("flag", state.held[number] ? "blue" : "grey", x + 6, y - 6);
  painter.spriteAt("fort", "grey", x, y + 5);
  painter.rect(plate[0] + 2, plate[1] + 2, 9, 10, tones.plate_dark);
  painter.rect(plate[0] + 2, plate[1] + 2, 8, 9, tones.paper);
  painter.text(letter(number), plate[0] + 4, plate[1] + 3, tones.ink);
  if (number === state.garrison) {
    painter.spriteAt("helmet", "blue", x, y + 6);
    hud.frame(painter, plate, tones.accent);
  }
}

function card(painter, layout, state) {
  const tones = theme(layout.platform);
  const box = layout.box("card");
  if (!box) return;
  hud.card(painter, layout, box);
  const [left, top, width, height] = box;
  for (let number = 0; number < SECTORS; number += 1) {
    const [x, y] =
      height > width
        ? [left + 12 + (number % 2) * 22, top + 18 + half(number) * 32]
        : [left + 14 + number * Math.floor((width - 8) / SECTORS), top + half(height)];
    painter.textAt(letter(number), x - 5, y, tones.text);
    painter.spriteAt("flag", state.held[number] ? "blue" : "grey", x + 5, y);
  }
}
