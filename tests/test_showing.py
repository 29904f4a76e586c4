"""show(): one page that holds everything, of a run that has something to show, in place of nothing but its like."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from logitkd import ModelConfig, show
from logitkd.runs.networks import TeacherConfig


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def shown(mask_run):
    return show(mask_run, count=3, device="cpu"), (mask_run / "show.html").read_text()


def test_the_page_says_what_the_run_scored(shown, mask_run):
    page, text = shown
    assert (page.path, page.examples, page.lacking) == (mask_run / "show.html", 3, "")
    result = json.loads((mask_run / "result.json").read_text())
    words = " ".join(Reader(text).text)
    assert f"student: mIoU {result['miou']:.2f} %, {result['metrics']['pixel_accuracy']:.2f} % of the pixels right" in words
    teacher = json.loads((mask_run.parent / "teacher/result.json").read_text())
    assert f"teacher: mIoU {teacher['miou']:.2f} %" in words
    assert "3 of 5 images" in words
    for name in ("ground", "disc", "bar"):
        assert f"{result['metrics'][f'iou/{name}']:.2f}" in words
    for fact in ("dense_networks:build_teacher", "gdkd (", "scenes, split val", "no class: counts nowhere"):
        assert fact in words


def test_the_page_needs_nothing_else(shown, mask_run):
    tags = Reader(shown[1]).tags
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(sources) == 3 * 6
    assert all(re.match(r"data:image/(png|jpeg);base64,[\w+/=]+$", source) for source in sources)
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    assert not {"script", "link", "iframe", "a"} & {tag for tag, _ in tags}
    assert "url(" not in shown[1]
    assert "@import" not in shown[1]
    assert str(mask_run.parent) not in shown[1]


def test_a_page_takes_the_place_of_a_page_alone(mask_run, tmp_path):
    target = tmp_path / "new/page.html"
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        show(mask_run, target, count=0)
    first = show(mask_run, target, count=1, teacher=False)
    assert "teacher" not in first.summary
    assert show(mask_run, target, count=2, teacher=False).examples == 2
    target.write_text("mine")
    with pytest.raises(FileExistsError, match=r"did not write .*page\.html\. Give another path"):
        show(mask_run, target)
    assert target.read_text() == "mine"
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Give a path in it"):
        show(mask_run, tmp_path)


def test_a_teacher_that_is_gone_is_left_out_and_another_may_come(mask_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(mask_run, copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace(str(mask_run.parent / "teacher"), str(tmp_path / "gone")))
    page = show(copy, count=1)
    assert page.lacking == f"its `teacher.checkpoint`, {tmp_path / 'gone'}, is not there"
    assert "its weights are not there" in page.path.read_text()
    assert str(tmp_path) not in page.path.read_text()
    for teacher in (mask_run.parent / "teacher", TeacherConfig(str(mask_run.parent / "teacher"))):
        page = show(copy, count=1, teacher=teacher)
        assert "; teacher: mIoU" in page.summary
        assert page.lacking == ""
    again = show(copy, count=1, teacher=ModelConfig("dense_networks:build", str(mask_run)))
    assert again.summary.split("; teacher")[0].removeprefix("student") == again.summary.split("; teacher")[1]


def test_names_are_not_taken_for_markup(mask_run, tmp_path):
    copy = tmp_path / "<b>"
    shutil.copytree(mask_run, copy)
    text = show(copy, count=1, teacher=False).path.read_text()
    assert "<h1>&lt;b&gt;</h1>" in text
    Reader(text)


def test_what_has_nothing_to_show_is_refused_by_name(teacher_folder, text_run, tmp_path):
    for run, name in ((teacher_folder, "images"), (text_run, "text")):
        with pytest.raises(ValueError, match=f"`show` must be given a run of the task segmentation, got one of `{name}`"):
            show(run, tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match=r"a run folder holds a config\.yaml"):
        show(tmp_path)
    assert not (tmp_path / "page.html").exists()
