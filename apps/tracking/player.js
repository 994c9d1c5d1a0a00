// One video, its controls, and the timeline's cursor, which is where the video is.
const start = () => {
  const player = element.querySelector(".player");
  if (!player || player.dataset.ready) return;
  player.dataset.ready = "yes";
  const video = player.querySelector("video");
  const fps = Number(player.dataset.fps), frames = Number(player.dataset.frames);
  const play = player.querySelector(".play"), slider = player.querySelector(".frame");
  const where = player.querySelector(".where"), lanes = player.querySelector(".lanes");
  let playing = false, frame = 0;

  const say = () => {
    slider.value = frame;
    slider.setAttribute("aria-valuetext", `frame ${frame + 1} of ${frames}`);
    where.textContent = `${frame + 1} / ${frames}`;
    play.textContent = playing ? "Pause" : "Play";
    lanes?.style.setProperty("--at", (frame + 0.5) / frames);
  };
  const seek = (to) => {
    frame = Math.min(frames - 1, Math.max(0, to));
    video.currentTime = (frame + 0.5) / fps; // the middle: no rounding at the edges
    say();
  };
  const pause = (at = frame) => {
    playing = false;
    video.pause();
    seek(at);
  };
  const follow = () => {
    if (!playing || !player.isConnected) return;
    if (video.ended || video.currentTime >= frames / fps - 0.01) {
      video.currentTime = 0;
      video.play().catch(() => {});
    }
    frame = Math.min(frames - 1, Math.floor(video.currentTime * fps + 0.01));
    say();
    requestAnimationFrame(follow);
  };
  const begin = () => {
    playing = true;
    if (frame === frames - 1) seek(0);
    video.play().catch(() => {});
    say();
    requestAnimationFrame(follow);
  };

  play.addEventListener("click", () => (playing ? pause() : begin()));
  slider.addEventListener("input", () => pause(Number(slider.value)));
  player.querySelector(".back").addEventListener("click", () => pause(frame - 1));
  player.querySelector(".ahead").addEventListener("click", () => pause(frame + 1));
  player.querySelector(".speed select").addEventListener("change", (event) => {
    video.playbackRate = Number(event.target.value);
  });
  lanes?.addEventListener("click", (event) => {
    const box = lanes.querySelector(".lane").getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share >= 0 && share <= 1) pause(Math.floor(share * frames));
  });
  say();
  if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) begin();
};
start();
watch("value", start);
