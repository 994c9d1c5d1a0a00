// A radio button for each of the nine games. `props.value` is "task/platform".
const root = element.querySelector(".cells");
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false) node.setAttribute(name, value);
  });
  node.append(...children);
  return node;
};
const choose = (event) => {
  props.value = event.target.value;
};
const cell = (task, { value, label, width, height, src }) =>
  make("label", { class: "cell" },
    make("input", {
      type: "radio", name: "ui-action-cell", value, checked: props.value === value,
      "aria-label": `${task.label}, ${label}`, onchange: choose,
    }),
    make("span", { class: "picture" }, make("img", { src, width, height, alt: "" })),
    make("span", { "aria-hidden": "true" }, label));
const row = (task) =>
  make("div", { class: "game" },
    make("p", {}, make("strong", {}, task.label), ` ${task.asked}`),
    make("div", { class: "row" }, ...task.cells.map((each) => cell(task, each))));

function render() {
  root.replaceChildren(...(props.games ?? []).map(row));
}
render();
watch("games", render);
watch("value", () => {
  root.querySelectorAll("input").forEach((input) => (input.checked = input.value === props.value));
});
