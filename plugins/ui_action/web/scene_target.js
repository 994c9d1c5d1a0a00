// The screen of target localisation; the same as games/scene_target.py.

import { centre, half, theme } from "./assets.js";
import * as hud from "./hud.js";
import { Xorshift32 } from "./prng.js";
import { TRIES } from "./target.js";

const [PLAIN, SAND, WATER, ROAD, TREE, ROCK] = [0, 1, 2, 3, 4, 5];

function terrain(state, board) {
  const random = new Xorshift32(state.seed, hud.SCENERY);
  const road = random.below(board.rows);
  const taken = new Map(state.units.map((unit) => [`${unit.column},${unit.row}`, unit.kind]));
  const grounds = new Map();
  for (const [column, row] of board.cells()) {
    const unit = taken.get(`${column},${row}`);
    const roll = random.below(16);
    let ground = row === road ? ROAD : roll < 2 ? WATER : roll < 5 ? SAND : PLAIN;
    if (ground === PLAIN && !unit) ground = roll > 12 ? TREE : roll === 12 ? ROCK : PLAIN;
    if (unit === "ship") ground = WATER;
    else if (ground === WATER && unit && unit !== "plane") ground = SAND;
    grounds.set(`${column},${row}`, ground);
  }
  return grounds;
}

export function ground(painter, layout, state) {
  const tones = theme(layout.platform);
  const board = layout.board;
  const random = new Xorshift32(state.seed, hud.SCENERY + 1);
  painter.rect(...board.area, tones.ground_dark);
  painter.speckle(board.area, 60, [tones.ground, tones.grid], random);
  const grounds = terrain(state, board);
  for (const [column, row] of board.cells()) {
    const kind = grounds.get(`${column},${row}`);
    const box = board.box(column, row);
    const beside = [column - 1, column + 1].map((next) => grounds.get(`${next},${row}`) === WATER);
    if (kind === WATER) pond(painter, tones, box, beside, random);
    else if (kind === ROAD) road(painter, tones, box, random);
    else field(painter, tones, box, kind, random);
  }
  hud.bar(painter, layout);
  hud.garden(painter, layout);
}

function field(painter, tones, [x, y, width, height], kind, random) {
  const name = kind === SAND ? "sand" : "ground";
  painter.rect(x, y, width, height, tones.grid);
  painter.rect(x, y, width - 1, height - 1, tones[name]);
  painter.speckle([x, y, width - 1, height - 1], 9, [tones[`${name}_light`], tones[`${name}_dark`]], random);
  const put = (sprite, left, right, top, bottom) => {
    const across = left + random.below(right);
    painter.sprite(sprite, "grey", x + across, y + top + random.below(bottom));
  };
  if (kind === TREE) {
    put("tree", 2, 4, 10, 4);
    put("tree", 13, 3, 4, 4);
  } else if (kind === ROCK) {
    put("rock", 4, 10, 10, 8);
  } else if (random.below(3) === 0) {
    put("tuft", 2, 20, 2, 20);
  }
}

function pond(painter, tones, [x, y, width, height], [left, right], random) {
  painter.rect(x, y, width, height, tones.ground);
  const start = left ? x : x + 1;
  const end = right ? x + width : x + width - 1;
  for (const [inset, tone] of [[0, "shore"], [1, "water_dark"], [2, "water"]]) {
    const first = left ? start : start + inset;
    const last = right ? end : end - inset;
    const corner = 3 - inset;
    const [top, bottom] = [y + 1 + inset, y + height - 1 - inset];
    painter.rect(first, top + corner, last - first, bottom - top - 2 * corner, tones[tone]);
    const inner = left ? first : first + corner;
    const outer = right ? last : last - corner;
    painter.rect(inner, top, outer - inner, bottom - top, tones[tone]);
  }
  painter.speckle([x + 5, y + 5, width - 10, height - 10], 5, [tones.water_light, tones.water_dark], random);
  for (let wave = 0; wave < 2; wave += 1) {
    const waveX = x + 4 + random.below(width - 12);
    const waveY = y + 5 + random.below(height - 11);
    painter.span(waveX + 1, waveY, 3, tones.water_light);
    painter.span(waveX, waveY + 1, 1, tones.water_light);
    painter.span(waveX + 4, waveY + 1, 2, tones.water_light);
  }
}

function road(painter, tones, box, random) {
  const [x, y, width, height] = box;
  painter.rect(x, y, width, height, tones.ground);
  painter.speckle(box, 5, [tones.ground_light, tones.ground_dark], random);
  painter.rect(x, y + 4, width, height - 8, tones.road_edge);
  painter.rect(x, y + 5, width, height - 10, tones.road);
  painter.speckle([x, y + 6, width, height - 12], 6, [tones.road_edge, tones.road_mark], random);
  for (const dash of [2, 16]) painter.rect(x + dash, y + half(height) - 1, 9, 2, tones.road_mark);
}

export function figures(painter, layout, state, adversarial, code) {
  const tones = theme(layout.platform);
  state.units.forEach((unit, number) => {
    const box = layout.board.box(unit.column, unit.row);
    const [x, y] = centre(box);
    if (number === state.selected) hud.frame(painter, box, tones.accent);
    const shade = unit.kind === "ship" ? tones.water_dark : tones.ground_dark;
    if (unit.kind !== "plane") painter.rect(x - 9, y + 8, 19, 2, shade);
    painter.spriteAt(unit.kind, unit.colour, x, y);
  });
  const title = code ? `FIND >${code}` : "FIND UNIT";
  const words = [title, `TRY ${Math.min(state.tries + 1, TRIES)}/${TRIES}`, "SELECT ONE"];
  hud.heading(painter, layout, words, adversarial);
  card(painter, layout, state);
  const clear = layout.box("clear");
  if (clear) hud.button(painter, layout, clear, ...(layout.platform === "mobile" ? ["", "cross"] : ["CLEAR"]));
  hud.ending(painter, layout, state.outcome);
}

function card(painter, layout, state) {
  const tones = theme(layout.platform);
  const box = layout.box("card");
  if (!box) return;
  hud.card(painter, layout, box);
  const [left, top, width, height] = box;
  const tall = height > width;
  const [x, y] = tall ? [left + half(width), top + 46] : [left + 18, top + half(height)];
  const wordsX = tall ? left + half(width) : left + 36 + half(width - 40);
  const wordsY = tall ? top + 12 : y;
  if (state.selected < 0) {
    painter.textAt("NO UNIT", ...centre(box), tones.dim);
    return;
  }
  const unit = state.units[state.selected];
  painter.textAt(unit.kind.toUpperCase(), wordsX, wordsY, tones.text);
  painter.spriteAt(unit.kind, unit.colour, x, y);
}
