// The preview is drawn anew at every step, so whether it stands still is kept on what stays.
const show = () => {
  const button = element.querySelector(".still");
  if (!button) return;
  const still = element.classList.contains("stands-still");
  button.setAttribute("aria-pressed", String(still));
  button.textContent = still ? "Play the preview" : "Pause the preview";
};
element.addEventListener("click", (event) => {
  if (!event.target.closest(".still")) return;
  element.classList.toggle("stands-still");
  show();
});
watch("value", show);
show();

// A slow timer and no CSS animation: that would style the page sixty times a second while the model needs the machine.
const TICK = 125, LOOP = 2000; // milliseconds
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
setInterval(() => {
  if (calm.matches || document.hidden || element.classList.contains("stands-still")) return;
  const share = (performance.now() % LOOP) / LOOP;
  element.querySelectorAll(".film[role=img]").forEach((film) => {
    const frames = Number(film.style.getPropertyValue("--frames"));
    film.style.backgroundPositionX = `${(100 * Math.floor(share * frames)) / Math.max(1, frames - 1)}%`;
  });
}, TICK);
