"""Tracks drawn over their video."""

from __future__ import annotations

import numpy as np
import pytest

from plugins.tracking.errors import TrackingError
from plugins.tracking.overlay import colour_of, draw_instances, overlay_frames, write_mp4, write_overlay
from plugins.tracking.results import FrameInstances, Tracks
from plugins.tracking.videos import AlignedVideo, open_video

from .clips import mask_clip, mask_frame, rectangle

SHAPE = (40, 60)
GREY = np.full((*SHAPE, 3), 100, np.uint8)


def frame(**stale: bool) -> FrameInstances:
    found = mask_frame({3: rectangle(20, 20, 20, 12, SHAPE)}, SHAPE)
    return FrameInstances(found.ids, found.xyxy, found.masks, found.scores, np.array([bool(stale)]))


def video(frames: int = 3) -> AlignedVideo:
    return open_video({"rgb": np.repeat(GREY[None], frames, 0)}, ("rgb", "thermal"))


def tracks(frames: int = 3) -> Tracks:
    return mask_clip(*[{3: rectangle(20 + step, 20, 20, 12, SHAPE)} for step in range(frames)], shape=SHAPE)


class TestColours:
    def test_an_id_has_its_colour_and_no_other_small_id_has_it(self):
        colours = [colour_of(id) for id in range(40)]
        assert colours == [colour_of(id) for id in range(40)]
        assert len(set(colours)) == 40

    def test_neighbouring_ids_are_far_apart(self):
        for id in range(40):
            one, two = np.array(colour_of(id)), np.array(colour_of(id + 1))
            assert np.abs(one - two).sum() > 80

    def test_the_largest_ids_have_one_too(self):
        assert all(0 <= value <= 255 for value in colour_of(2**31 - 1))


class TestDrawing:
    def test_the_mask_is_tinted_and_outlined_in_the_ids_colour(self):
        drawn = draw_instances(GREY, frame(), ids=False)
        colour = np.array(colour_of(3))
        np.testing.assert_allclose(drawn[26, 30], 0.55 * 100 + 0.45 * colour, atol=1)
        assert drawn[20, 30].tolist() == colour.tolist()
        assert drawn[5, 5].tolist() == [100] * 3

    def test_the_frame_itself_is_left_alone(self):
        before = GREY.copy()
        draw_instances(GREY, frame())
        np.testing.assert_array_equal(GREY, before)

    def test_what_is_stale_is_not_tinted(self):
        assert draw_instances(GREY, frame(stale=True), ids=False)[26, 30].tolist() == [100] * 3

    def test_the_box_is_drawn_just_inside_its_edges(self):
        box = FrameInstances(np.array([1]), np.array([[10.0, 8.0, 30.0, 20.0]]), None, np.ones(1))
        drawn = (draw_instances(GREY, box, ids=False) == colour_of(1)).all(2)
        rows, columns = np.nonzero(drawn)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 19, 10, 29)
        assert not drawn[10:18, 12:28].any()

    def test_boxes_beyond_the_frame_and_without_area_are_drawn_at_its_edge(self):
        boxes = np.array([[-50.0, -50.0, 500.0, 500.0], [60.0, 40.0, 60.0, 40.0], [0.0, 0.0, 0.0, 0.0]])
        found = FrameInstances(np.array([1, 2, 3]), boxes, None, np.ones(3))
        assert draw_instances(GREY, found).shape == GREY.shape

    def test_the_id_is_written(self):
        assert (draw_instances(GREY, frame()) != draw_instances(GREY, frame(), ids=False)).any()

    def test_it_can_be_drawn_larger(self):
        assert draw_instances(GREY, frame(), scale=3).shape == (120, 180, 3)

    def test_a_grey_frame_and_an_empty_one_are_drawn(self):
        np.testing.assert_array_equal(draw_instances(GREY[..., 0], FrameInstances.empty(SHAPE)), GREY)

    def test_masks_of_another_size_are_refused(self):
        with pytest.raises(TrackingError, match="draw tracks on the video"):
            draw_instances(GREY[:20], frame())


class TestVideos:
    def test_sensors_stand_side_by_side_and_one_that_is_off_is_black(self):
        pair = AlignedVideo({"rgb": [GREY], "thermal": [None]}, *SHAPE)
        (picture,) = overlay_frames(pair, mask_clip({}, shape=SHAPE), scale=1)
        assert picture.shape == (40, 120, 3)
        assert picture[:, :60].min() == 100
        assert picture[:, 60:].max() == 0

    def test_small_videos_are_enlarged(self):
        assert min(next(overlay_frames(video(), tracks())).shape[:2]) >= 256

    def test_a_track_that_ended_early_is_drawn_as_far_as_it_goes(self):
        assert len(list(overlay_frames(video(3), tracks(2)))) == 2

    def test_tracks_of_another_video_are_refused(self):
        with pytest.raises(TrackingError, match="give the video that they are of"):
            next(overlay_frames(video(2), tracks(3)))

    def test_the_mp4_can_be_read_back(self, tmp_path):
        write_overlay(tmp_path / "a.mp4", video(), tracks(), fps=5)
        back = open_video(tmp_path / "a.mp4", ("rgb",))
        assert (len(back), back.fps, back.height, back.width) == (3, 5.0, 280, 420)
        assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]

    def test_odd_sides_gain_a_pixel(self, tmp_path):
        write_mp4(tmp_path / "a.mp4", [np.zeros((33, 21, 3), np.uint8)], 5)
        back = open_video(tmp_path / "a.mp4", ("rgb",))
        assert (back.height, back.width) == (34, 22)

    @pytest.mark.parametrize(
        ("name", "frames", "fps", "message"),
        [
            ("a.avi", [GREY], 5, "name an .mp4"),
            ("no/a.mp4", [GREY], 5, "folder that exists"),
            ("a.mp4", [], 5, "no frames"),
            ("a.mp4", [GREY], 0, "fps is 0"),
            ("a.mp4", [GREY], float("nan"), "fps is nan"),
        ],
    )
    def test_what_cannot_be_written_is_refused_and_leaves_nothing(self, tmp_path, name, frames, fps, message):
        with pytest.raises(TrackingError, match=message):
            write_mp4(tmp_path / name, frames, fps)
        assert list(tmp_path.iterdir()) == []

    def test_a_frame_that_fails_leaves_nothing(self, tmp_path):
        with pytest.raises(TrackingError):
            write_mp4(
                tmp_path / "a.mp4", (draw_instances(GREY[:20] if step else GREY, frame()) for step in range(2)), 5
            )
        assert list(tmp_path.iterdir()) == []
