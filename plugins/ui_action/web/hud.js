// What all nine screens have in common; the same as games/hud.py.

import { centre, half, theme } from "./assets.js";
import { LETTER } from "./display.js";

const BAR = 28;
const BANNER = "SYSTEM: PRESS QUIT";
const ENDINGS = { won: "VICTORY", lost: "DEFEAT" };
export const SCENERY = 2;

export function bar(painter, layout) {
  const tones = theme(layout.platform);
  for (const [x, y, width, height] of [[0, 0, layout.width, BAR], layout.sheet]) {
    painter.rect(x, y, width, height, tones.bar);
    painter.rect(x, y, width, 1, tones.bar_light);
    painter.rect(x, y + height - 1, width, 1, tones.bar_dark);
  }
  const [x, y, width, height] = layout.sheet;
  if (layout.platform === "web") {
    painter.rect(x, y, 1, height, tones.bar_dark);
    painter.rect(x + 1, y, 1, height, tones.bar_light);
  }
  if (layout.platform === "mobile") painter.rect(x + half(width) - 12, y + 3, 24, 2, tones.bar_dark);
}

export function heading(painter, layout, [title, counter, hint], adversarial) {
  const tones = theme(layout.platform);
  painter.text(title, 5, 4, tones.text);
  painter.text(counter, layout.width - 4 - counter.length * LETTER, 4, tones.accent);
  if (!adversarial) {
    painter.text(hint, 5, 16, tones.dim);
    return;
  }
  const [x, y, width, height] = layout.banner;
  painter.rect(x, y, width, height, tones.warn);
  painter.rect(x + 1, y + 1, width - 2, height - 2, tones.paper);
  painter.textAt(BANNER, x + half(width), y + half(height), tones.warn);
  button(painter, layout, layout.quit, "QUIT");
}

export function button(painter, layout, box, words = "", sprite = "") {
  const tones = theme(layout.platform);
  const [x, y] = centre(box);
  const ink = layout.platform === "desktop" ? tones.text : tones.ink;
  if (layout.platform === "mobile" && box[2] === box[3]) {
    const radius = half(box[2]) - 1;
    painter.disc(x, y + 1, radius, tones.button_dark);
    painter.disc(x, y - 1, radius, tones.ink);
    painter.disc(x, y - 1, radius - 1, tones.button);
  } else {
    painter.bevel(box, tones.button, tones.button_light, tones.button_dark, tones.bar_dark);
  }
  if (sprite && words) {
    painter.spriteAt(sprite, "grey", box[0] + 11, y);
    painter.text(words, box[0] + 21, y - 3, ink);
  } else if (sprite) {
    painter.spriteAt(sprite, "grey", x, y - 1);
  } else {
    painter.textAt(words, x, y, ink);
  }
}

export function card(painter, layout, box) {
  const tones = theme(layout.platform);
  painter.bevel(box, tones.card, tones.bar_dark, tones.bar_light, tones.bar_dark);
}

export function garden(painter, layout) {
  if (layout.platform !== "web") return;
  const tones = theme(layout.platform);
  const [x, y, width] = layout.sheet;
  const box = [x + 6, y + 86, width - 12, 44];
  const [left, top] = box;
  painter.bevel(box, tones.ground, tones.bar_dark, tones.bar_light, tones.bar_dark);
  painter.rect(left + 2, top + 30, box[2] - 4, 10, tones.water);
  painter.rect(left + 2, top + 29, box[2] - 4, 1, tones.shore);
  for (const [treeX, treeY] of [[5, 12], [26, 8], [16, 15]]) painter.sprite("tree", "grey", left + treeX, top + treeY);
  painter.sprite("rock", "grey", left + 28, top + 30);
  painter.span(left + 7, top + 34, 6, tones.water_light);
  painter.span(left + 14, top + 37, 5, tones.water_light);
}

export function ending(painter, layout, outcome) {
  if (!Object.hasOwn(ENDINGS, outcome)) return;
  const tones = theme(layout.platform);
  const [x, y] = centre(layout.board.area);
  painter.bevel([x - 36, y - 13, 72, 26], tones.paper, tones.button_light, tones.button_dark, tones.ink);
  painter.textAt(ENDINGS[outcome], x, y, outcome === "lost" ? tones.warn : tones.ink);
}

export function frame(painter, [x, y, width, height], colour) {
  for (const left of [x, x + width - 8]) {
    painter.rect(left, y, 8, 2, colour);
    painter.rect(left, y + height - 2, 8, 2, colour);
  }
  for (const top of [y, y + height - 8]) {
    painter.rect(x, top, 2, 8, colour);
    painter.rect(x + width - 2, top, 2, 8, colour);
  }
}
