// Display lists on a canvas, pixel for pixel as games/raster.py draws them.

import { art, glyph, palette, paletteNames, spriteNames } from "./assets.js";
import { LETTER, RECT, SPAN, SPRITE } from "./display.js";

export function render(canvas, display) {
  canvas.width = display.width;
  canvas.height = display.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const image = context.createImageData(display.width, display.height);
  for (const commands of [display.ground, display.figures]) for (const command of commands) draw(image, command);
  context.putImageData(image, 0, 0);
}

function draw(image, command) {
  const [kind, x, y] = command;
  if (kind === RECT) fill(image, x, y, command[3], command[4], command[5]);
  else if (kind === SPAN) fill(image, x, y, command[3], 1, command[4]);
  else if (kind === SPRITE) sprite(image, x, y, spriteNames[command[3]], palette(paletteNames[command[4]]));
  else text(image, x, y, command[3], command.slice(4));
}

function fill({ data, width, height }, left, top, across, down, colour) {
  const right = Math.min(left + across, width);
  const bottom = Math.min(top + down, height);
  for (let y = Math.max(top, 0); y < bottom; y += 1) {
    for (let x = Math.max(left, 0); x < right; x += 1) {
      const place = (y * width + x) * 4;
      data[place] = colour >> 16;
      data[place + 1] = (colour >> 8) & 255;
      data[place + 2] = colour & 255;
      data[place + 3] = 255;
    }
  }
}

function sprite(image, left, top, name, colours) {
  art.sprites[name].forEach((row, y) => {
    [...row].forEach((letter, x) => {
      if (letter !== ".") fill(image, left + x, top + y, 1, 1, colours[letter] ?? 0);
    });
  });
}

function text(image, left, top, colour, codes) {
  codes.forEach((code, place) => {
    glyph(String.fromCodePoint(code)).forEach((dots, y) => {
      [...dots].forEach((dot, x) => {
        if (dot === "#") fill(image, left + place * LETTER + x, top + y, 1, 1, colour);
      });
    });
  });
}
