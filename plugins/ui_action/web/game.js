// One game: rules, controls and screen together; the same as games/game.py.

import * as area from "./area.js";
import { Layout, PLATFORMS, holds } from "./assets.js";
import * as controls from "./controls.js";
import { Painter } from "./display.js";
import * as resource from "./resource.js";
import * as areaScene from "./scene_area.js";
import * as resourceScene from "./scene_resource.js";
import * as targetScene from "./scene_target.js";
import * as target from "./target.js";

const GAMES = {
  "target-localisation": [target, targetScene],
  "resource-allocation": [resource, resourceScene],
  "area-control": [area, areaScene],
};
export const TASKS = Object.keys(GAMES);

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

export class Game {
  constructor(task, platform, adversarial) {
    if (!TASKS.includes(task)) throw new RangeError(`no task ${task}: choose one of ${TASKS.join(", ")}`);
    if (!PLATFORMS.includes(platform)) {
      throw new RangeError(`no platform ${platform}: choose one of ${PLATFORMS.join(", ")}`);
    }
    this.task = task;
    this.platform = platform;
    this.adversarial = adversarial;
    [this.play, this.scene] = GAMES[task];
    this.layout = new Layout(platform, task);
    this.reset(0);
  }

  reset(seed) {
    this.typed = "";
    const states = this.play.begin(seed, this.layout.board);
    this.rules = states.at(-1);
    const painter = new Painter();
    this.scene.ground(painter, this.layout, this.rules);
    this.ground = painter.commands;
    return states;
  }

  handle(event) {
    const command = this.done ? null : this.command(event);
    if (command === null) return [];
    const states = this.play.apply(this.rules, command);
    this.rules = states.at(-1);
    return states;
  }

  get instruction() {
    return this.play.instruction(this.rules);
  }

  get done() {
    return this.rules.outcome !== "playing";
  }

  get success() {
    return this.rules.outcome === "won";
  }

  state(rules = this.rules) {
    const { task, platform, adversarial, typed } = this;
    return { task, platform, adversarial, typed, ...rules };
  }

  async stateHash(rules = this.rules) {
    const words = new TextEncoder().encode(JSON.stringify(sorted(this.state(rules))));
    const digest = await crypto.subtle.digest("SHA-256", words);
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  display(rules = this.rules) {
    const painter = new Painter();
    this.scene.figures(painter, this.layout, rules, this.adversarial, this.typed);
    return { width: this.layout.width, height: this.layout.height, ground: this.ground, figures: painter.commands };
  }

  command(event) {
    if (event.kind === "key") return this.keyed(event.key);
    const pressed = event.kind === "tap" || event.kind === "long_press";
    if (this.adversarial && pressed && holds(this.layout.quit, event.x, event.y)) return ["quit"];
    return controls.pointed(this.layout, this.rules, event);
  }

  keyed(key) {
    if ([...key].length === 1) {
      if (/^[A-Za-z0-9]$/.test(key)) this.typed = (this.typed + key.toUpperCase()).slice(-controls.CODE_LENGTH);
      return null;
    }
    if (key === "Backspace") {
      this.typed = this.typed.slice(0, -1);
      return null;
    }
    const code = this.typed;
    this.typed = "";
    return key === "Enter" ? controls.typed(this.layout, code) : ["idle"];
  }
}
