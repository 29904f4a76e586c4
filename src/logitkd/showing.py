"""show(): one page of evaluation examples, what is right and what a run's student and its teacher say of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torch import nn

from logitkd import tasks
from logitkd.checks import check_int
from logitkd.evaluation import measured, prepared, resolved
from logitkd.exporting.public import public_name, public_source
from logitkd.files import check_output, write_atomic, writing
from logitkd.models import import_recorded, opening
from logitkd.runs.config import TrainConfig
from logitkd.runs.device import resolve_device
from logitkd.runs.folder import read_run
from logitkd.runs.networks import ModelConfig, TeacherConfig
from logitkd.runs.values import validate
from logitkd.tasks.gallery import Entry, Gallery, Scene

__all__ = ["Page", "show"]

PAGE = "show.html"  # in a run folder
OURS = '<meta name="generator" content="logitkd show">'  # in a page of ours, which a new one may replace


@dataclass(frozen=True)
class Page:
    """What was drawn.

    Args:
        path: the page.
        examples: how many are on it.
        summary: the scores, in a sentence.
        lacking: why there is no teacher on it, where the run had one; else empty.
    """

    path: Path
    examples: int
    summary: str
    lacking: str = ""


def show(
    run: str | Path,
    output: str | Path | None = None,
    *,
    count: int = 12,
    data: Any = None,
    teacher: nn.Module | ModelConfig | str | Path | bool = True,
    batch_size: int | None = None,
    device: str = "auto",
    trust_code: bool = False,
) -> Page:
    """Write a page of some evaluation examples of a run, with what its student and its teacher say of each.

    The page is one HTML file that holds all its pictures: no network, no script, no other file is needed to read it. Of a run
    of segmentation it has the image, the truth, what student and teacher say, where the student is wrong and where the two
    differ, and a legend with the IoU of each class; pixels without a class are hatched. The images are spread evenly from that
    of which the student gets least right to that of most.

    Args:
        run: the run folder.
        output: the HTML file; by default ``show.html`` in the run folder.
        count: so many examples, or all there are.
        data: the settings of other data of the task, as in :func:`~logitkd.evaluate`; by default the run's.
        teacher: the network to compare with, as in :func:`~logitkd.evaluate`; ``True`` is the run's, where its weights are
            there, ``False`` is none.
        batch_size: examples at a time; changes memory and speed only. By default as the task evaluates.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust_code: whether a ``package.module:callable`` that the run folder names may be imported from the folder itself; by
            default only from elsewhere.

    Returns:
        Where the page is, and what is on it.

    Raises:
        FileNotFoundError: ``run`` is no run folder, has no student yet, or its data are not there.
        FileExistsError: ``output`` is a file that this function did not write.
        ValueError: a run of a task that has nothing to draw; and as :func:`~logitkd.evaluate`.
    """
    check_int("count", count, 1)
    where, folder = resolve_device(device), Path(run)
    path = folder / PAGE if output is None else Path(output)
    _refuse_foreign(path)
    record = read_run(folder)
    name = record["run"].get("task", TrainConfig.task)
    if not tasks.get(name).drawn:
        drawn = [other for other in tasks.names() if tasks.get(other).drawn]
        raise ValueError(f"`show` must be given a run of the task {' or '.join(drawn)}, got one of `{name}`: nothing to draw.")
    lacking, own = "", teacher is True
    folders = [folder, *([teacher] if isinstance(teacher, (str, Path)) else [])]
    with opening(folders, trust_code=trust_code):
        if own:
            teacher, lacking = _recorded(record, folder, trust_code)
        taught_by = None if isinstance(teacher, bool) else teacher
        model, kind, settings, taught_by = resolved(folder, data, taught_by, trust_code)
        ready = prepared(model, kind, settings, taught_by, batch_size, where)
        theirs = measured(ready.teacher, ready)
        mine = measured(ready.network, ready)
        assert mine is not None
        gallery = ready.task.gallery(mine, theirs, count)
        facts = _facts(record, ready.task.split, taught_by, lacking)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _page(folder.resolve().name, facts, gallery).encode())
    return Page(path, len(gallery.scenes), gallery.summary, lacking)


def _refuse_foreign(path: Path) -> None:
    """Raise unless the page can be written: to a new file, or in place of an earlier page."""
    check_output(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"`output` must be a file, but {path} is a folder. Give a path in it, such as {path / PAGE}.")
    if path.exists() and OURS.encode() not in path.read_bytes()[:1000]:
        raise FileExistsError(
            f"`output` must be a new file or an earlier page, but `logitkd show` did not write {path}. Give another path."
        )


def _recorded(record: dict[str, Any], folder: Path, trust_code: bool) -> tuple[TeacherConfig | bool, str]:
    """Return the run's teacher, or ``False``, and why it is not there."""
    if record["run"].get("teacher") is None:
        return False, ""
    teacher: TeacherConfig = validate(TeacherConfig, record["run"]["teacher"], "teacher.")
    absent = teacher.absent()
    if absent is not None:
        key, path = absent
        return False, f"its `{key}`, {path}, is not there"
    for member in teacher.members().values():
        import_recorded(member.name, folder, trust_code=trust_code)
    return teacher, ""


def _facts(record: dict[str, Any], split: str, teacher: Any, lacking: str) -> dict[str, str]:
    run, method = record["run"], record["method"]
    options = ", ".join(f"{key} {value}" for key, value in method.items() if key != "name")
    named = [type(teacher).__name__] if isinstance(teacher, nn.Module) else []
    if isinstance(teacher, TeacherConfig):
        named = [public_name(member.name) for member in teacher.members().values()]
    elif isinstance(teacher, ModelConfig):
        named = [public_name(teacher.name)]
    return {
        "student": public_name(run["student"]["name"]),
        "method": method["name"] + (f" ({options})" if options else ""),
        "teacher": " and ".join(named) or ("its weights are not there" if lacking else "none"),
        "data": f"{public_source(run['data'].get('source', ''))}, split {split}",
    }


STYLE = """\
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1600px; padding: 0 1.5em; }
body { color: #222; background: #fff; }
h1 { font-size: 1.5em; margin-bottom: 0.2em; } h2 { font-size: 1em; margin: 2em 0 0.5em; }
table { border-collapse: collapse; margin: 1em 2em 1em 0; display: inline-table; vertical-align: top; }
th, td { text-align: left; padding: 0.15em 1em 0.15em 0; } td.number, th.number { text-align: right; }
.scene { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 0.8em; }
figure { margin: 0; } figure img { width: 100%; display: block; image-rendering: pixelated; }
figcaption { font-size: 0.87em; } figcaption span { color: #666; }
i.swatch { display: inline-block; width: 1.6em; height: 1em; border: 1px solid #999; }
i.swatch { vertical-align: -0.1em; margin-right: 0.6em; }
i.hatched { background: repeating-linear-gradient(135deg, #969696 0 3px, #ebebeb 3px 6px); }
"""


def _page(title: str, facts: dict[str, str], gallery: Gallery) -> str:
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>\n" for key, value in facts.items())
    scenes = "".join(map(_scene, gallery.scenes))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{OURS}
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(gallery.summary)}.<br>{escape(gallery.chosen)}.</p>
<table>
{rows}</table>
{_legend(gallery.columns, gallery.classes)}
{_legend((), gallery.marks)}
{scenes}</body>
</html>
"""


def _legend(columns: Sequence[str], entries: Sequence[Entry]) -> str:
    titles = "".join(f'<th class="number">{escape(title)}</th>' for title in columns)
    head = f"<tr><th></th>{titles}</tr>\n" if titles else ""
    lines = []
    for entry in entries:
        swatch = '<i class="swatch hatched"></i>'
        if entry.color is not None:
            red, green, blue = entry.color
            swatch = f'<i class="swatch" style="background: rgb({red}, {green}, {blue})"></i>'
        values = "".join(f'<td class="number">{escape(value)}</td>' for value in entry.values)
        lines.append(f"<tr><td>{swatch}{escape(entry.name)}</td>{values}</tr>\n")
    return f"<table>\n{head}{''.join(lines)}</table>"


def _scene(scene: Scene) -> str:
    figures = []
    for picture in scene.pictures:
        kind = "png" if picture.content.startswith(b"\x89PNG") else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(picture.content).decode()}"
        note = f"<br><span>{escape(picture.note)}</span>" if picture.note else ""
        alt = escape(f"{scene.title}: {picture.title}")
        figures.append(
            f'<figure><img src="{source}" alt="{alt}"><figcaption>{escape(picture.title)}{note}</figcaption></figure>\n'
        )
    return f'<h2>{escape(scene.title)}</h2>\n<div class="scene">\n{"".join(figures)}</div>\n'
