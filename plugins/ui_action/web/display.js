// A screen as a list of integer commands; the same as games/display.py.

import { art, half, paletteNames, spriteNames } from "./assets.js";

export const [RECT, SPAN, SPRITE, TEXT] = [0, 1, 2, 3];
export const LETTER = 6;
const LETTER_HEIGHT = 7;

export class Painter {
  commands = [];

  rect(x, y, width, height, colour) {
    this.commands.push([RECT, x, y, width, height, colour]);
  }

  span(x, y, width, colour) {
    this.commands.push([SPAN, x, y, width, colour]);
  }

  sprite(name, palette, x, y) {
    this.commands.push([SPRITE, x, y, spriteNames.indexOf(name), paletteNames.indexOf(palette)]);
  }

  spriteAt(name, palette, x, y) {
    const rows = art.sprites[name];
    this.sprite(name, palette, x - half(rows[0].length), y - half(rows.length));
  }

  text(words, x, y, colour) {
    this.commands.push([TEXT, x, y, colour, ...[...words].map((letter) => letter.codePointAt(0))]);
  }

  textAt(words, x, y, colour) {
    this.text(words, x - half(words.length * LETTER - 1), y - half(LETTER_HEIGHT), colour);
  }

  bevel([x, y, width, height], face, light, dark, edge) {
    this.rect(x + 1, y, width - 2, height, edge);
    this.rect(x, y + 1, width, height - 2, edge);
    this.rect(x + 1, y + 1, width - 2, height - 2, dark);
    this.rect(x + 1, y + 1, width - 3, height - 4, light);
    this.rect(x + 2, y + 2, width - 4, height - 5, face);
  }

  disc(x, y, radius, colour) {
    for (let step = -radius; step <= radius; step += 1) {
      const reach = Math.floor(Math.sqrt(radius * radius + radius - step * step));
      this.span(x - reach, y + step, 2 * reach + 1, colour);
    }
  }

  speckle([left, top, width, height], count, colours, random) {
    for (let number = 0; number < count; number += 1) {
      const length = 1 + random.below(3);
      const x = left + random.below(width - length + 1);
      const y = top + random.below(height);
      this.span(x, y, length, colours[random.below(colours.length)]);
    }
  }
}
