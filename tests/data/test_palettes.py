from itertools import combinations

from logitkd.data.palettes import default_palette


def test_colors_differ_from_each_other_and_from_black_and_white():
    colors = [*default_palette(30), (0, 0, 0), (255, 255, 255)]
    assert min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in combinations(colors, 2)) >= 40
    assert len(set(default_palette(500))) >= 490
    assert all(0 <= part <= 255 for color in default_palette(500) for part in color)


def test_more_classes_keep_the_colors_of_fewer():
    assert default_palette(300)[:21] == default_palette(21)


def test_given_colors_come_first():
    assert default_palette(3, [(1, 2, 3)] * 5) == ((1, 2, 3),) * 3
    assert default_palette(25, [(1, 2, 3)] * 22) == ((1, 2, 3),) * 22 + default_palette(25)[22:]
