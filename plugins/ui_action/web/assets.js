// What both renderers read: drawings, colours and places; the same as games/assets.py.

import art from "./art.json" with { type: "json" };
import layouts from "./layout.json" with { type: "json" };

export { art };
export const PLATFORMS = Object.keys(layouts);
export const spriteNames = Object.keys(art.sprites);
export const paletteNames = Object.keys(art.palettes);

export const half = (length) => Math.floor(length / 2);
export const centre = ([x, y, width, height]) => [x + half(width), y + half(height)];
export const holds = ([left, top, width, height], x, y) =>
  left <= x && x < left + width && top <= y && y < top + height;

export const colour = (code) => parseInt(code.slice(1), 16);
const paired = (codes) => Object.fromEntries(Object.entries(codes).map(([use, code]) => [use, colour(code)]));
const themes = Object.fromEntries(Object.entries(art.themes).map(([name, codes]) => [name, paired(codes)]));
const palettes = Object.fromEntries(Object.entries(art.palettes).map(([name, codes]) => [name, paired(codes)]));
export const theme = (platform) => themes[platform];
export const palette = (name) => palettes[name];
export const glyph = (character) => (Object.hasOwn(art.font, character) ? art.font[character] : art.font["?"]).split("/");

class Board {
  constructor(data) {
    Object.assign(this, data);
  }

  get area() {
    return [this.x, this.y, this.width, this.height];
  }

  cells() {
    const found = [];
    for (let row = 0; row < this.rows; row += 1) {
      const columns = this.columns - (this.shift && row % 2 ? 1 : 0);
      for (let column = 0; column < columns; column += 1) found.push([column, row]);
    }
    return found;
  }

  box(column, row) {
    const side = Math.floor(this.height / this.rows);
    return [this.x + column * side + (row % 2 ? this.shift : 0), this.y + row * side, side, side];
  }
}

export class Layout {
  constructor(platform, task) {
    const data = layouts[platform];
    this.platform = platform;
    this.task = task;
    this.width = data.width;
    this.height = data.height;
    this.board = new Board(data.board);
    this.sheet = data.sheet;
    this.banner = data.banner;
    this.quit = data.quit;
    this.places = data[task];
  }

  box(name) {
    const found = this.places[name];
    return found && found.length ? found : null;
  }

  boxes(name) {
    return this.places[name];
  }
}
