// When the first screen comes, bring it into view: the button that started it may be far below or above.
let there = false;
watch("value", () => {
  const first = !there && element.querySelector("img");
  there = Boolean(element.querySelector("img"));
  // Two frames later, for the screen that stood here before the run goes away with the same news.
  if (first) requestAnimationFrame(() => requestAnimationFrame(look));
});
const look = () => {
  const box = element.getBoundingClientRect();
  if (box.top >= 0 && box.top < window.innerHeight / 2) return;
  document.getElementById("ui-action-status")?.scrollIntoView({ block: "start" });
};
