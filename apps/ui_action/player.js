// One step at a time: the slider, the arrows beside it and the strip below all go to the same place.
const start = () => {
  const replay = element.querySelector(".replay");
  if (!replay || replay.dataset.ready) return;
  replay.dataset.ready = "yes";
  const turns = [...replay.querySelectorAll(".turn")], thumbs = [...replay.querySelectorAll(".strip button")];
  const slider = replay.querySelector(".at"), where = replay.querySelector(".where");
  const strip = replay.querySelector(".strip");
  const name = (at) => (at === turns.length - 1 ? "end" : `step ${at + 1} of ${turns.length - 1}`);

  const show = (to) => {
    const at = Math.min(turns.length - 1, Math.max(0, to));
    turns.forEach((turn, place) => (turn.hidden = place !== at));
    thumbs.forEach((thumb, place) => (place === at ? thumb.setAttribute("aria-current", "step") : thumb.removeAttribute("aria-current")));
    slider.value = at;
    slider.setAttribute("aria-valuetext", name(at));
    where.textContent = name(at);
    // Along the strip only: the page itself stays where it is.
    const thumb = thumbs[at];
    strip.scrollLeft = thumb.offsetLeft - strip.offsetLeft - (strip.clientWidth - thumb.clientWidth) / 2;
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  replay.querySelector(".back").addEventListener("click", () => show(Number(slider.value) - 1));
  replay.querySelector(".ahead").addEventListener("click", () => show(Number(slider.value) + 1));
  strip.addEventListener("click", (event) => {
    const thumb = event.target.closest("button");
    if (thumb) show(Number(thumb.dataset.at));
  });
  show(0);
};
start();
watch("value", start);
