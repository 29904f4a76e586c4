"""Images normalised for one network, normalised again for another."""

import pytest
import torch

from logitkd.reach import Renormalize

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
OWN_MEAN, OWN_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def column(values):
    return torch.tensor(values).view(3, 1, 1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_equals_the_networks_own_normalisation_of_the_pixels(memory_format):
    pixels = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format)
    images = (pixels - column(MEAN)) / column(STD)
    again = Renormalize(MEAN, STD, OWN_MEAN, OWN_STD)(images)
    torch.testing.assert_close(again, (pixels - column(OWN_MEAN)) / column(OWN_STD))
    assert again.is_contiguous(memory_format=memory_format)


def test_it_adds_nothing_to_a_state_dict():
    assert not Renormalize(MEAN, STD, OWN_MEAN, OWN_STD).state_dict()


def test_one_value_a_channel_everywhere():
    with pytest.raises(ValueError, match="one value a channel, got 3 and 3 for the images, 1 and 3 for the network"):
        Renormalize(MEAN, STD, [0.5], OWN_STD)
