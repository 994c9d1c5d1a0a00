// The page: one game on one canvas, and what an environment asks of it, as window.quartet.

import { Game } from "./game.js";
import { listen } from "./pointer.js";
import { render } from "./render.js";

const asked = new URLSearchParams(location.search);
const canvas = document.querySelector("canvas");
const game = new Game(
  asked.get("task") ?? "target-localisation",
  asked.get("platform") ?? "desktop",
  asked.get("adversarial") === "1",
);
let seen = [];

function show(states) {
  seen.push(...states.map((state) => game.display(state)));
  render(canvas, game.display());
  document.title = game.instruction;
}

function reset(seed) {
  seen = [];
  show(game.reset(seed));
}

// The screens since the last call, or the one that is there if nothing has happened since.
function frames() {
  const off = document.createElement("canvas");
  const displays = seen.length ? seen : [game.display()];
  seen = [];
  return displays.map((display) => {
    render(off, display);
    return off.toDataURL("image/png");
  });
}

const handle = (event) => show(game.handle(event));
reset(Number(asked.get("seed") ?? 0));
listen(canvas, handle);

window.quartet = Object.freeze({
  reset,
  frames,
  stateHash: () => game.stateHash(),
  state: () => game.state(),
  tick: () => game.rules.tick ?? 0,
  done: () => game.done,
  success: () => game.success,
  instruction: () => game.instruction,
  // The clock stands still until the player acts; waiting is an action that no mouse or key stands for.
  wait: () => handle({ kind: "wait" }),
});
