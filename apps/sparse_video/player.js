// One set of controls for all clips: the first video is the clock, the others follow it.
const start = () => {
  const player = element.querySelector(".player");
  if (!player || player.dataset.ready) return;
  player.dataset.ready = "yes";
  const videos = [...player.querySelectorAll("video")];
  const [clock, ...others] = videos;
  const fps = Number(player.dataset.fps), frames = Number(player.dataset.frames);
  const play = player.querySelector(".play"), slider = player.querySelector(".frame");
  const where = player.querySelector(".where");
  let playing = false, frame = 0;

  const say = () => {
    slider.value = frame;
    slider.setAttribute("aria-valuetext", `frame ${frame + 1} of ${frames}`);
    where.textContent = `${frame + 1} / ${frames}`;
    play.textContent = playing ? "Pause" : "Play";
  };
  const seek = (to) => {
    frame = Math.min(frames - 1, Math.max(0, to));
    videos.forEach((video) => { video.currentTime = (frame + 0.5) / fps; }); // the middle: no rounding at the edges
    say();
  };
  const pause = () => {
    playing = false;
    videos.forEach((video) => video.pause());
    seek(frame);
  };
  const run = () => Promise.allSettled(videos.map((video) => video.play()));
  const follow = () => {
    if (!playing || !player.isConnected) return;
    if (clock.ended || clock.currentTime >= frames / fps - 0.01) {
      videos.forEach((video) => { video.currentTime = 0; });
      run();
    }
    frame = Math.min(frames - 1, Math.floor(clock.currentTime * fps + 0.01));
    others.forEach((video) => {
      if (Math.abs(video.currentTime - clock.currentTime) > 0.75 / fps) video.currentTime = clock.currentTime;
      if (video.paused) video.play().catch(() => {});
    });
    say();
    requestAnimationFrame(follow);
  };
  const begin = () => {
    playing = true;
    if (frame === frames - 1) seek(0);
    run();
    say();
    requestAnimationFrame(follow);
  };

  play.addEventListener("click", () => (playing ? pause() : begin()));
  slider.addEventListener("input", () => { frame = Number(slider.value); pause(); });
  player.querySelector(".back").addEventListener("click", () => { frame = Math.max(0, frame - 1); pause(); });
  player.querySelector(".ahead").addEventListener("click", () => { frame = Math.min(frames - 1, frame + 1); pause(); });
  player.querySelector(".speed select").addEventListener("change", (event) => {
    videos.forEach((video) => { video.playbackRate = Number(event.target.value); });
  });
  player.querySelector(".show-difference")?.addEventListener("change", (event) => {
    player.classList.toggle("differences", event.target.checked);
  });
  say();
  if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) begin();
};
start();
watch("value", start);
