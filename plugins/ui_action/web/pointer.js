// The browser's mouse, finger, wheel and keys as a game's events; the same ones that environments/simulator.py makes.

const DRAG_PIXELS = 6;
const LONG_PRESS_MILLISECONDS = 500;
const MODIFIERS = ["Control", "Shift", "Alt", "AltGraph", "Meta"];
const NAMED = ["Enter", "Escape", "Backspace"];

export function listen(canvas, handle) {
  const at = ({ clientX, clientY }) => {
    const place = canvas.getBoundingClientRect();
    const inside = (offset, drawn, shown) =>
      Math.min(Math.max(Math.floor((offset * drawn) / shown), 0), drawn - 1);
    return {
      x: inside(clientX - place.left, canvas.width, place.width),
      y: inside(clientY - place.top, canvas.height, place.height),
    };
  };
  let down = null;
  const press = (point, time) => {
    down = { ...at(point), time };
  };
  const release = (point, time, again) => {
    if (down === null) return;
    const { x, y, time: since } = down;
    const { x: endX, y: endY } = at(point);
    down = null;
    if (Math.max(Math.abs(endX - x), Math.abs(endY - y)) >= DRAG_PIXELS) handle({ kind: "drag", x, y, endX, endY });
    else if (time - since >= LONG_PRESS_MILLISECONDS) handle({ kind: "long_press", x, y });
    else handle({ kind: again ? "double_tap" : "tap", x, y });
  };

  const on = (where, name, then) =>
    where.addEventListener(
      name,
      (event) => {
        event.preventDefault();
        then(event);
      },
      { passive: false },
    );
  on(canvas, "mousedown", (event) => {
    if (event.button === 0) press(event, event.timeStamp);
  });
  on(window, "mouseup", (event) => {
    if (event.button === 0) release(event, event.timeStamp, event.detail % 2 === 0 && event.detail > 0);
  });
  on(canvas, "contextmenu", (event) => handle({ kind: "secondary_tap", ...at(event) }));
  on(canvas, "wheel", (event) => handle({ kind: "scroll", ...at(event) }));
  on(canvas, "touchstart", (event) => press(event.changedTouches[0], event.timeStamp));
  on(canvas, "touchend", (event) => release(event.changedTouches[0], event.timeStamp, false));
  on(canvas, "touchcancel", () => {
    down = null;
  });
  on(window, "keydown", (event) => {
    if (MODIFIERS.includes(event.key)) return;
    const joined = event.ctrlKey || event.altKey || event.metaKey;
    const known = [...event.key].length === 1 || NAMED.includes(event.key);
    handle({ kind: "key", key: !joined && known ? event.key : "Other" });
  });
}
