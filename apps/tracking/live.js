// When the first frame comes, bring it into view: the button that started it may be far below or above.
let there = false;
watch("value", () => {
  const first = !there && element.querySelector("img");
  there = Boolean(element.querySelector("img"));
  if (!first) return;
  const box = element.getBoundingClientRect();
  if (box.top >= 0 && box.top < window.innerHeight / 2) return;
  document.getElementById("tracking-status")?.scrollIntoView({ block: "start" });
});
