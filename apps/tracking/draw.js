// Boxes and points on the first frame, by mouse, touch or number fields. `props.value` is the list of prompts.
const SVG = "http://www.w3.org/2000/svg";
const root = element.querySelector(".draw");
const state = { tool: "box", active: null, draft: null, said: "" };

const make = (tag, attributes = {}, ...children) => {
  const svg = ["svg", "rect", "circle", "text", "g"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  });
  node.append(...children);
  return node;
};
const prompts = () => (Array.isArray(props.value) ? props.value : []);
const colour = (id) => (props.colours?.length ? props.colours[id % props.colours.length] : "#E69F00");
const size = () => [Number(props.width) || 1, Number(props.height) || 1];
const round = (value) => Math.round(value * 10) / 10;
const limit = (value, most) => round(Math.min(most, Math.max(0, Number(value) || 0)));
const kept = (next, said = "") => {
  state.said = said;
  props.value = next;
  render();
};
const nextId = () => prompts().reduce((most, prompt) => Math.max(most, prompt.id), 0) + 1;
const changed = (id, changes) => kept(prompts().map((prompt) => (prompt.id === id ? { ...prompt, ...changes } : prompt)));
const remove = (id) => kept(prompts().filter((prompt) => prompt.id !== id), `Object ${id} removed`);

const addBox = (box) => {
  const id = nextId();
  state.active = id;
  kept([...prompts(), { id, frame: 0, box }], `Box of object ${id} added`);
};
const addPoint = (at, label) => {
  const active = prompts().find((prompt) => prompt.id === state.active && prompt.points);
  if (active) {
    changed(active.id, { points: [...active.points, at], labels: [...active.labels, label] });
  } else if (label) {
    const id = nextId();
    state.active = id;
    kept([...prompts(), { id, frame: 0, points: [at], labels: [1] }], `Point of object ${id} added`);
  } else {
    state.said = "First mark a point on the object; then points beside it.";
    render();
  }
};

// Pointer: a drag is a box, a click a point.
const place = (event) => {
  const [width, height] = size();
  const box = event.currentTarget.getBoundingClientRect();
  return [
    limit(((event.clientX - box.left) / box.width) * width, width),
    limit(((event.clientY - box.top) / box.height) * height, height),
  ];
};
const corners = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
const down = (event) => {
  if (event.button) return;
  event.preventDefault();
  const at = place(event);
  if (state.tool !== "box") return addPoint(at, state.tool === "on" ? 1 : 0);
  event.currentTarget.setPointerCapture(event.pointerId);
  state.draft = [at, at];
};
const move = (event) => {
  if (!state.draft) return;
  state.draft[1] = place(event);
  root.querySelectorAll(".draft").forEach((node) => outline(node, corners(...state.draft)));
};
const up = () => {
  if (!state.draft) return;
  const box = corners(...state.draft);
  state.draft = null;
  if (box[2] - box[0] >= 2 && box[3] - box[1] >= 2) addBox(box);
  else {
    state.said = "Drag from one corner of the object to the other.";
    render();
  }
};
const outline = (node, [x0, y0, x1, y1]) =>
  Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 }).forEach(([name, value]) => node.setAttribute(name, value));

const marks = (prompt) => {
  const [width] = size();
  const paint = colour(prompt.id), letter = width / 18;
  const group = make("g", { stroke: paint, fill: paint });
  const first = prompt.box ?? [...(prompt.points[0] ?? [0, 0])];
  if (prompt.box) {
    const back = make("rect", { class: "back" }), box = make("rect", { class: "box" });
    [back, box].forEach((node) => outline(node, prompt.box));
    group.append(back, box);
  } else {
    prompt.points.forEach(([x, y], index) => {
      group.append(make("circle", { cx: x, cy: y, r: width / 55, class: prompt.labels[index] ? "on" : "beside" }));
    });
  }
  const text = make("text", { x: first[0] + letter / 4, y: Math.max(letter, first[1] - letter / 4), "font-size": letter });
  text.textContent = prompt.id;
  group.append(text);
  return group;
};
const redraw = () =>
  root.querySelectorAll(".canvas svg").forEach((layer) => layer.replaceChildren(...prompts().map(marks), make("rect", { class: "draft" })));
const picture = ({ label, src }) => {
  const [width, height] = size();
  const canvas = make("div", { class: "canvas", onpointerdown: down, onpointermove: move, onpointerup: up, onpointercancel: up });
  const layer = make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  canvas.append(make("img", { src, alt: `${label}, first frame`, draggable: "false" }), layer);
  return make("figure", {}, canvas, make("figcaption", {}, label));
};

const number = (id, key, label, value, most, change) =>
  make("label", { class: "number" }, label, make("input", {
    type: "number", value, min: 0, max: most, step: "any", "data-key": key,
    // In place: a field that is drawn anew while the focus leaves it would take the focus with it.
    onchange: (event) => {
      const inside = limit(event.target.value, most);
      event.target.value = inside;
      props.value = prompts().map((prompt) => (prompt.id === id ? { ...prompt, ...change(inside, prompt) } : prompt));
      redraw();
    },
  }));
const boxFields = ({ id, box }) => {
  const [width, height] = size();
  const names = ["left", "top", "right", "bottom"], most = [width, height, width, height];
  return names.map((name, index) =>
    number(id, `${id}-${name}`, name, box[index], most[index], (value, prompt) => ({
      box: prompt.box.map((old, at) => (at === index ? value : old)),
    })));
};
const pointFields = ({ id, points, labels }) => {
  const most = size();
  return points.flatMap((point, index) => ["x", "y"].map((name, axis) =>
    number(id, `${id}-${index}-${name}`, `${labels[index] ? "on" : "beside"} ${name}`, point[axis], most[axis], (value, prompt) => ({
      points: prompt.points.map((old, at) => (at === index ? old.map((each, which) => (which === axis ? value : each)) : old)),
    }))));
};
const row = (prompt) => {
  const fields = prompt.box ? boxFields(prompt) : pointFields(prompt);
  return make("div", { class: "prompt", role: "group", "aria-label": `Object ${prompt.id}` },
    make("span", { class: "who" }, make("i", { style: `background:${colour(prompt.id)}` }), `${prompt.id}`),
    make("span", { class: "fields" }, ...fields),
    make("button", { type: "button", "data-key": `${prompt.id}-remove`, "aria-label": `Remove object ${prompt.id}`, onclick: () => remove(prompt.id) }, "×"));
};
const tool = (value, text) =>
  make("label", { class: "tool" }, make("input", {
    type: "radio", name: "tracking-draw-tool", value, checked: state.tool === value, "data-key": `tool-${value}`,
    onchange: () => { state.tool = value; if (value === "on") state.active = null; render(); },
  }), text);
const byNumbers = () => {
  const [width, height] = size();
  addBox([width / 4, height / 4, (3 * width) / 4, (3 * height) / 4].map(round));
};

function render() {
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const list = prompts(), pictures = props.pictures ?? [];
  root.replaceChildren();
  if (!pictures.length) return;
  const button = (key, text, act, disabled = false) =>
    make("button", { type: "button", "data-key": key, onclick: act, disabled }, text);
  root.append(
    make("div", { class: "tools", role: "radiogroup", "aria-label": "What a press on the picture draws" },
      tool("box", "Box"), tool("on", "Point on it"), tool("beside", "Point beside it")),
    make("div", { class: "pictures", "data-count": pictures.length }, ...pictures.map(picture)),
    make("div", { class: "tools" },
      button("add", "Add a box by numbers", byNumbers),
      state.tool !== "box" ? button("next", "Next object", () => { state.active = null; state.said = "The next point begins another object."; render(); }) : "",
      button("clear", "Remove all", () => { state.active = null; kept([], "All removed"); }, !list.length)),
    make("div", { class: "prompts" }, ...list.map(row)),
    make("p", { class: "quiet", role: "status" }, state.said || (list.length ? "" : "Nothing is drawn yet.")));
  redraw();
  if (focused) root.querySelector(`[data-key="${focused}"]`)?.focus();
}
render();
watch(["value", "pictures", "width", "height"], () => { state.active = null; state.said = ""; render(); });
