"""The training-only heads are asked what the screen shows, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plugins.ui_action.pointing import Labels, Layout, PointingHeads, labels_of

SIZE = (84, 56)  # three columns, two rows


def test_rows_and_columns_run_as_the_tokens_do():
    labels = labels_of(None, SIZE)
    assert labels.rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert labels.columns.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_token_shows_the_object_that_covers_most_of_it():
    layout = Layout(kinds=(3, 5), boxes=((0, 0, 40, 28), (30, 0, 84, 28)))
    assert labels_of(layout, SIZE).kinds.tolist() == [3, 5, 5, 0, 0, 0]


def test_an_object_that_only_touches_a_token_is_not_what_it_shows():
    assert labels_of(Layout((3,), ((0, 0, 29, 29),)), SIZE).kinds.tolist() == [3, 0, 0, 0, 0, 0]


def test_the_target_is_where_the_task_means_however_small():
    assert labels_of(Layout(target=(60, 30, 64, 34)), SIZE).target.tolist() == [0, 0, 0, 0, 0, 1]
    assert labels_of(Layout(), SIZE).target.sum() == 0


def test_the_heads_learn_what_can_be_seen():
    torch.manual_seed(0)
    layout = Layout(kinds=(1, 2), boxes=((0, 0, 28, 28), (56, 28, 84, 56)), target=(56, 28, 84, 56))
    labels = [labels_of(layout, SIZE)] * 2
    hidden = torch.eye(6, 8).repeat(2, 1)
    heads = PointingHeads(8, 3)
    optimiser = torch.optim.Adam(heads.parameters(), 0.1)
    for _ in range(150):
        losses = heads.loss(hidden, hidden, labels)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    assert set(losses) == {"place", "kind", "target"}
    assert heads.kind(hidden).argmax(1)[:6].tolist() == [1, 0, 0, 0, 0, 2]
    assert (heads.target(hidden)[:6, 0] > 0).tolist() == [False] * 5 + [True]


def test_screens_without_a_layout_count_for_places_only():
    heads = PointingHeads(8, 3)
    unknown = labels_of(None, SIZE)
    assert set(heads.loss(torch.zeros(6, 8), torch.zeros(6, 8), [unknown])) == {"place"}
    mixed = heads.loss(torch.zeros(12, 8), torch.zeros(12, 8), [unknown, labels_of(Layout(), SIZE)])
    assert all(torch.isfinite(value) for value in mixed.values())


def test_labels_of_another_screen_do_not_fit():
    wrong = Labels(*(np.zeros(4, np.int64) for _ in range(4)))
    with pytest.raises(ValueError, match="batch_size"):
        PointingHeads(8, 3).loss(torch.zeros(6, 8), torch.zeros(6, 8), [wrong])
