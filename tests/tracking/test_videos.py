"""Videos of the caller's own: what is read, what is refused, and how the refusal reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from plugins.tracking.errors import TrackingError
from plugins.tracking.modalities import MODALITIES
from plugins.tracking.overlay import write_mp4
from plugins.tracking.scenes import generate_scene
from plugins.tracking.videos import AlignedVideo, VideoLimits, open_video

SIDE = 48


def clip(frames: int = 5, height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    """A smooth gradient that brightens from frame to frame, so that codecs keep it."""
    grey = np.linspace(20, 120, width)[None, None, :, None] + 10 * np.arange(frames)[:, None, None, None] + seed
    return np.broadcast_to(grey, (frames, height, width, 3)).astype(np.uint8)


def images(folder: Path, frames: np.ndarray, name: str = "{}.png") -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


def opened(source: Any, **options: Any) -> AlignedVideo:
    return open_video(source, MODALITIES, **options)


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(TrackingError) as caught:
        opened(source, **options)
    return str(caught.value)


class TestMemory:
    def test_arrays_are_taken_in_the_models_order(self):
        video = opened({"thermal": clip(), "rgb": clip()})
        assert video.modalities == ("rgb", "thermal")
        assert (len(video), video.height, video.width, video.fps) == (5, SIDE, SIDE, None)
        np.testing.assert_array_equal(video.moment(2)["thermal"], clip()[2])

    def test_a_single_array_is_rgb(self):
        assert opened(clip()).modalities == ("rgb",)

    def test_a_sensor_of_a_scene_that_is_off_gives_no_frame_rather_than_a_black_one(self):
        scene = generate_scene(1, frames=4, size=(SIDE, SIDE), missing={"thermal": [(1, 3)]})
        moments = list(opened(scene, modalities=("rgb", "thermal")))
        assert ["thermal" in moment for moment in moments] == [True, False, False, True]

    def test_a_list_of_frames_may_have_gaps(self):
        video = opened({"rgb": [clip()[0], None, clip()[2]]})
        assert [sorted(moment) for moment in video] == [["rgb"], [], ["rgb"]]
        assert video.summary()["missing"] == {"rgb": 1}

    def test_only_the_sensors_that_are_asked_for_are_taken(self):
        assert opened({"rgb": clip(), "thermal": "nowhere.mp4"}, modalities=("rgb",)).modalities == ("rgb",)
        assert opened(opened({"rgb": clip(), "depth": clip()}), modalities=("depth",)).modalities == ("depth",)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({"radar": clip()}, "unknown modality 'radar'"),
            ({}, "none of rgb, thermal, depth, event"),
            (3, "type int is not read"),
            ({"rgb": 3}, "rgb is a int"),
            ({"rgb": clip().astype(float)}, "give uint8"),
            ({"rgb": clip()[..., :2]}, "give uint8"),
            ({"rgb": []}, "no frames"),
            ({"rgb": [None, None]}, "gives no frame at all"),
            ({"rgb": [clip()[0], clip(height=50)[0]]}, "changes its size"),
            ({"rgb": [clip()[0], "a"]}, "give uint8"),
        ],
    )
    def test_what_is_no_video_is_refused(self, source, message):
        assert message in refusal(source)


class TestAlignment:
    def test_different_lengths_are_refused_with_the_way_out(self):
        message = refusal({"rgb": clip(5), "thermal": clip(9)})
        assert "rgb 5, thermal 9" in message
        assert "resample=True" in message

    def test_different_sizes_are_refused_with_the_way_out(self):
        message = refusal({"rgb": clip(), "thermal": clip(height=24, width=32)})
        assert "rgb 48 x 48, thermal 24 x 32" in message
        assert "resample=True" in message

    def test_resampling_brings_all_to_the_leading_sensor(self):
        video = opened({"thermal": clip(9, 24, 32), "rgb": clip(5)}, resample=True)
        assert (len(video), video.height, video.width) == (5, SIDE, SIDE)
        assert video.moment(4)["thermal"].shape == (SIDE, SIDE, 3)
        brightness = [float(moment["thermal"].mean()) for moment in video]
        np.testing.assert_allclose(np.diff(brightness), 20, atol=1)  # every second of nine frames

    def test_resampling_leaves_what_fits_as_it_is(self):
        frames = clip()
        assert opened({"rgb": frames, "thermal": clip(9)}, resample=True).frames["rgb"] is frames


class TestFiles:
    def test_a_video_file_is_read_with_its_rate(self, tmp_path):
        write_mp4(tmp_path / "a.mp4", clip(6), 12)
        video = opened(tmp_path / "a.mp4")
        assert (len(video), video.fps, video.modalities) == (6, 12.0, ("rgb",))
        assert np.abs(video.moment(3)["rgb"].astype(int) - clip(6)[3]).mean() < 4

    def test_a_folder_of_images_is_read_in_the_order_of_its_numbers(self, tmp_path):
        folder = images(tmp_path / "a", clip(11), "frame{}.png")
        (folder / "notes.txt").write_text("not a frame")
        np.testing.assert_array_equal(opened({"thermal": folder}).frames["thermal"], clip(11))

    def test_a_folder_may_hold_one_file_or_folder_per_sensor(self, tmp_path):
        images(tmp_path / "thermal", clip(4))
        write_mp4(tmp_path / "rgb.mp4", clip(4), 10)
        assert opened(tmp_path).modalities == ("rgb", "thermal")

    def test_depth_of_16_bits_becomes_nearness_with_holes_at_zero(self, tmp_path):
        values = np.full((SIDE, SIDE), 4000, np.uint16)
        values[:, :24], values[0, 0] = 1000, 0
        (tmp_path / "depth").mkdir()
        Image.fromarray(values).save(tmp_path / "depth" / "0.png")
        frame = opened(tmp_path).moment(0)["depth"]
        assert frame.dtype == np.uint8
        assert frame[5, 5].tolist() == [255] * 3
        assert frame[5, 40].tolist() == [64] * 3
        assert frame[0, 0].tolist() == [0] * 3

    def test_thermal_of_16_bits_is_stretched_over_the_clip_not_over_each_frame(self, tmp_path):
        (tmp_path / "thermal").mkdir()
        for number, value in enumerate((29000, 30000)):
            Image.fromarray(np.full((SIDE, SIDE), value, np.uint16)).save(tmp_path / "thermal" / f"{number}.png")
        first, second = (moment["thermal"].mean() for moment in opened(tmp_path))
        assert (first, second) == (0, 255)

    @pytest.mark.parametrize(
        "name", ["nowhere.mp4", "a\0b", "x" * 5000, "http://127.0.0.1/a.mp4", "concat:a|b", "../../etc/nothing", ""]
    )
    def test_a_path_to_nothing_is_refused_in_a_short_line(self, name):
        for source in (name, {"rgb": name}):
            message = refusal(source)
            assert "there is no file or folder" in message
            assert len(message) < 250
            assert "\0" not in message

    def test_a_hostile_name_is_shown_without_what_a_terminal_obeys(self, tmp_path):
        (tmp_path / "\x1b[2Jx.mp4").write_bytes(b"nothing")
        message = refusal(str(tmp_path / "\x1b[2Jx.mp4"))
        assert "\x1b" not in message
        assert "not a video" in message

    @pytest.mark.parametrize("content", [b"", b"not a video", b"ffconcat version 1.0\nfile b.mp4\n"])
    def test_a_file_that_is_no_video_or_names_another_one_is_refused(self, tmp_path, content):
        write_mp4(tmp_path / "b.mp4", clip(), 10)
        (tmp_path / "a.mp4").write_bytes(content)
        assert "not a video that is read here" in refusal(tmp_path / "a.mp4")

    @pytest.mark.parametrize("container", ["mp4", "mkv"])  # the first cannot be opened, the second ends quietly
    def test_a_video_that_is_cut_off_is_refused(self, tmp_path, container):
        noise = np.random.default_rng(0).integers(0, 256, (60, SIDE, SIDE, 3), dtype=np.uint8)
        write_mp4(tmp_path / "whole.mp4", noise, 10)
        whole = tmp_path / f"again.{container}"
        with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(whole), "w") as copy:
            stream = copy.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
        assert len(opened(whole)) == 60
        content = whole.read_bytes()
        (tmp_path / f"cut.{container}").write_bytes(content[: len(content) // 2])
        message = refusal(tmp_path / f"cut.{container}")
        assert "cut off or damaged" in message or "not a video" in message

    def test_a_damaged_image_is_refused_by_name(self, tmp_path):
        folder = images(tmp_path / "a", clip(3))
        (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:100])
        assert "'1.png' is damaged" in refusal(folder)

    def test_an_image_that_links_out_of_its_folder_is_refused(self, tmp_path):
        folder = images(tmp_path / "a", clip(2))
        os.symlink("/etc/hostname", folder / "3.png")
        assert "not links" in refusal(folder)

    def test_a_folder_without_images_says_what_belongs_there(self, tmp_path):
        assert "called rgb, thermal, depth, event" in refusal(tmp_path)
        assert "holds no images" in refusal({"depth": tmp_path})


class TestLimits:
    def test_too_many_frames_are_refused_before_they_are_decoded(self, tmp_path):
        write_mp4(tmp_path / "a.mp4", clip(8), 10)
        limits = VideoLimits(max_frames=7)
        for source in (tmp_path / "a.mp4", {"rgb": clip(8)}, images(tmp_path / "b", clip(8))):
            message = refusal(source, limits=limits)
            assert "limit 7" in message
            assert "start_session" in message

    def test_two_hours_are_refused_by_the_header(self, tmp_path):
        write_mp4(tmp_path / "long.mp4", clip(8), 0.001)
        assert "limit 120 s" in refusal(tmp_path / "long.mp4")

    def test_large_frames_and_large_files_are_refused(self, tmp_path):
        write_mp4(tmp_path / "a.mp4", clip(), 10)
        folder = images(tmp_path / "b", clip())
        for source in (tmp_path / "a.mp4", folder):
            assert "scale it down" in refusal(source, limits=VideoLimits(max_pixels=1000))
            assert "once decoded" in refusal(source, limits=VideoLimits(max_decoded_bytes=20_000))
            assert "shorten it" in refusal(source, limits=VideoLimits(max_bytes=10))

    def test_a_limit_is_above_zero(self):
        with pytest.raises(TrackingError, match="max_frames is 0"):
            VideoLimits(max_frames=0)
