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
