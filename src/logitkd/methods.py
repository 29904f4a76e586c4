"""The table of methods: a name, its paper, its loss and its weights. A new method is one row."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from logitkd.checks import unknown
from logitkd.losses import (
    BlockKDLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    GDKD3Loss,
    GDKDLoss,
    ICDLoss,
    KDLoss,
    LDRLDLoss,
    LogitLoss,
    MLKDLoss,
    NKDLoss,
    SDDLoss,
    Standardized,
)
from logitkd.objective import Objective
from logitkd.reach.signals import Wants

__all__ = ["Method", "get", "names", "register"]

_WEIGHTS = ("ce_weight", "kd_weight", "warmup_epochs")


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Args:
        name: the key, as in ``--method NAME``.
        paper: what to cite.
        summary: one line for ``logitkd list``.
        parts: the loss classes, outermost first: ``(SDDLoss, DKDLoss)`` is ``SDDLoss(DKDLoss(...))``; empty trains on labels.
        ce_weight: weight of the cross-entropy with the labels.
        kd_weight: weight of the loss.
        warmup_epochs: epochs over which the loss grows to its weight.
        overrides: loss options that differ from the defaults on the classes.
    """

    name: str
    paper: str
    summary: str
    parts: tuple[type[LogitLoss], ...]
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    warmup_epochs: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        known: list[str] = list(_WEIGHTS)
        defaults: dict[str, Any] = {}
        for part, spelling in self.spellings():
            known += spelling.values()
            defaults |= {spelling[name]: default for name, default in _options_of(part).items()}
        # `scales` of iCD follow those of the SDD inside it: one name, one meaning.
        clash = {name for name in known if known.count(name) > 1} - {"scales"}
        if clash:
            raise ValueError(f"method `{self.name}`: its parts share the option names {sorted(clash)}; they must differ.")
        for name in self.overrides:
            if name not in known:
                raise ValueError(f"method `{self.name}`: {unknown('option', name, known)}")
        # A default spelt out is no override: rows with the same hyper-parameters are equal.
        changed = {name: value for name, value in self.overrides.items() if value != defaults[name]}
        object.__setattr__(self, "overrides", MappingProxyType(changed))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view cannot be pickled or copied; the row is rebuilt from what made it.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Method, tuple({**values, "overrides": dict(self.overrides)}.values())

    def replace(self, **options: Any) -> Method:
        """Return this method with other hyper-parameters: any of :attr:`options`.

        Raises:
            ValueError: an unknown option (names the closest), a value its loss refuses.
            TypeError: a value of the wrong type.

        >>> get("gdkd").replace(top_k=3).options["top_k"]
        3
        """
        for name in options:
            if name not in self.options:
                raise ValueError(f"method `{self.name}`: {unknown('option', name, self.options)}")
        weights = {name: options.pop(name) for name in _WEIGHTS if name in options}
        changed = replace(self, overrides={**self.overrides, **options}, **weights)
        if changed == self:
            return self
        changed.objective()  # every value passes the checks of the class that uses it
        return changed

    @property
    def options(self) -> dict[str, Any]:
        """Every hyper-parameter and its value: the three weights, then the loss's own, outermost class last."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _WEIGHTS}
        for part, spelling in reversed(self.spellings()):
            for name, default in _options_of(part).items():
                values.setdefault(spelling[name], default)
        return {**values, **self.overrides}

    def spellings(self) -> list[tuple[type[LogitLoss], dict[str, str]]]:
        """Return for each part how its arguments are called among the options.

        By their own names; but Block-KD has weights ``alpha`` and ``beta`` as its distance may have, which is then set by
        ``d_alpha`` and ``d_beta``.
        """
        spellings: list[tuple[type[LogitLoss], dict[str, str]]] = []
        taken: set[str] = set()
        for part in self.parts:
            names = _options_of(part)
            prefix = "d_" if self.parts[0] is BlockKDLoss else ""
            spellings.append((part, {name: f"{prefix}{name}" if name in taken else name for name in names}))
            taken.update(names)
        return spellings

    @cached_property
    def loss(self) -> LogitLoss | None:
        """The loss with this method's hyper-parameters, built once for them: it has no state. None without one."""
        key = self.name, self.parts, repr(self.overrides)  # not the values themselves: 1, 1.0 and True are equal
        if key in _BUILT:
            return _BUILT[key]
        loss: LogitLoss | None = None
        for part, spelling in reversed(self.spellings()):
            given = {name: self.overrides[option] for name, option in spelling.items() if option in self.overrides}
            loss = part(**given) if loss is None else part(loss, **given)  # type: ignore[arg-type]
        if loss is not None:
            _BUILT[key] = loss
        return loss

    def objective(self, streams: Mapping[str, float] = MappingProxyType({})) -> Objective:
        """Return what a student is trained on: both losses with their weights, and likewise on ``streams``, see there."""
        return Objective(self.loss, self.ce_weight, self.kd_weight, self.warmup_epochs, streams=streams)

    def check_classes(self, num_classes: int) -> None:
        """Raise ``ValueError`` if a hyper-parameter does not fit the number of classes, before time is spent.

        >>> get("gdkd").check_classes(4)
        Traceback (most recent call last):
            ...
        ValueError: `top_k` must be in [1, 3] (num_classes - 1), got 5.
        """
        if self.loss is None:
            return
        try:
            self.loss.check_classes(num_classes)
        except ValueError as error:
            fit = {spelt[name]: value for part, spelt in self.spellings() for name, value in part.two_class_options.items()}
            if num_classes != 2 or not fit or fit.items() <= self.options.items():
                raise
            flags = " ".join(f"--method.{option} {value}" for option, value in fit.items())
            raise ValueError(f"{error} Give `{flags}`; but {self.replace(**fit).note_classes(2)}") from error

    def note_classes(self, num_classes: int) -> str:
        """Return what becomes of the method where there are two classes alone; empty where it stays what it is.

        >>> get("block-dkd").note_classes(2).partition(':')[0]
        'with 2 classes `block-dkd` is `block-kd` with other weights'
        >>> get("block-dkd").note_classes(3)
        ''
        """
        parts = [] if self.loss is None or num_classes != 2 else list(self.loss.modules())
        for part in parts:  # the outermost first
            if isinstance(part, LogitLoss) and part.two_classes:
                plain = tuple(KDLoss if kind is type(part) else kind for kind in self.parts)
                kd = next((method.name for method in _TABLE.values() if method.parts == plain), "kd")
                return f"with 2 classes `{self.name}` {part.two_classes.format(kd=kd)}."
        return ""

    @property
    def wants(self) -> Wants:
        """What the method reads of a forward pass of both networks."""
        return Wants() if self.loss is None else Wants(self.loss.reads, getattr(self.loss, "scales", None))

    @property
    def one_teacher(self) -> bool:
        """Whether it looks into its teacher's blocks, so that there can be only one."""
        return self.wants.reads == "stones"

    @property
    def has_teacher(self) -> bool:
        """Whether it learns from a teacher."""
        return bool(self.parts)

    @property
    def needs_labels(self) -> bool:
        """Whether training as the options stand needs labels, for the cross-entropy or for the loss."""
        return self.ce_weight > 0 or (self.loss is not None and self.loss.needs_labels)

    @property
    def needs_hard_labels(self) -> bool:
        """Whether the loss needs the class of every example, none missing and none mixed; the cross-entropy never does."""
        return self.loss is not None and self.loss.needs_hard_labels

    @property
    def label_free_options(self) -> dict[str, Any]:
        """The options that take the labels out of it, as far as options do: ``ce_weight`` 0, and those of its loss."""
        options: dict[str, Any] = {"ce_weight": 0.0}
        for part in self.parts:
            options |= part.without_labels
        return options

    @property
    def labels_optional(self) -> bool:
        """Whether it can be trained on the teacher alone: :meth:`without_labels` works."""
        return bool(self.parts) and not self.replace(**self.label_free_options).needs_labels

    def without_labels(self, given: Mapping[str, Any] = MappingProxyType({})) -> Method:
        """Return this method trained on the teacher alone.

        Args:
            given: options that somebody asked for, which must not be overruled without a word.

        Raises:
            ValueError: it has no teacher or its loss needs labels (the message lists the methods that can do without), or an
                option of ``given`` asks for labels.

        >>> get("kd").without_labels().ce_weight
        0.0
        """
        if not self.labels_optional:
            why = "its loss needs them" if self.parts else "it has no teacher"
            raise ValueError(
                f"`method` must be one that can be trained without labels, got `{self.name}`: {why}. These can: "
                f"{', '.join(name for name in names() if get(name).labels_optional)}."
            )
        for name, value in self.label_free_options.items():
            if given.get(name, value) != value:
                raise ValueError(f"`{name}` must be {value} without labels, got {given[name]}. Leave it out, or give labels.")
        return self.replace(**self.label_free_options)


def _options_of(part: type[LogitLoss]) -> dict[str, Any]:
    """Return the hyper-parameters of a loss class: its constructor's arguments but the inner loss."""
    parameters = inspect.signature(part.__init__).parameters
    return {name: p.default for name, p in parameters.items() if name not in ("self", "loss", "d")}


_TABLE: dict[str, Method] = {}
_BUILT: dict[tuple[str, tuple[type[LogitLoss], ...], str], LogitLoss] = {}  # by a row's name, its classes and its options


def register(method: Method) -> Method:
    """Add a row to the table; a name that is taken, or a row that cannot be built, raises ``ValueError``."""
    if method.name in _TABLE:
        raise ValueError(f"method `{method.name}` is in the table already. Choose another name.")
    method.objective()  # a row that cannot be built is refused when it is written
    _TABLE[method.name] = method
    return method


def get(name: str) -> Method:
    """Return the row called ``name``; an unknown name raises ``ValueError`` that lists the close ones.

    >>> get("dkd").kd_weight
    1.0
    """
    if name not in _TABLE:
        raise ValueError(unknown("method", name, _TABLE))
    return _TABLE[name]


def names() -> list[str]:
    """Return the names of all methods, in the table's order."""
    return list(_TABLE)


_KD = "Hinton et al. 2015, 1503.02531"
_DKD = "Zhao et al. CVPR 2022, 2203.08679"
_NKD = "Yang et al. ICCV 2023, 2303.13005"
_GDKD = "Zheng and Cheng TNNLS 2025, 2512.04625"
_LS = "Sun et al. CVPR 2024, 2403.01427"
_LDRLD = "Xu et al. ICCV 2025, 2507.15911"
_SDD = "Luo CVPR 2024, 2403.13512"
_ICD = "Xue et al. AAAI 2026, 2509.12553"
_BLOCK = "Yu et al. TAI 2024, 2411.01547"
_BETA2 = {"beta": 2.0}  # the SDD and iCD configurations weigh DKD's non-target term by 2

for _row in (
    Method("ce", "", "labels alone: a student by itself, or a teacher", ()),
    Method("kd", _KD, "KL of the softened distributions", (KDLoss,), 0.1, 0.9),
    Method("dkd", _DKD, "target and non-target knowledge, weighed apart", (DKDLoss,), warmup_epochs=20),
    Method("nkd", _NKD, "normalised non-target cross-entropy", (NKDLoss,), warmup_epochs=20),
    Method("gdkd", _GDKD, "the teacher's top classes, the rest, their shares", (GDKDLoss,), warmup_epochs=20),
    Method("gdkd3", _GDKD, "GDKD with the teacher's first class apart", (GDKD3Loss,), warmup_epochs=20),
    Method("ldrld", _LDRLD, "pairs of the student's top classes, and the rest", (LDRLDLoss,)),
    Method("dist", "Huang et al. NeurIPS 2022, 2205.10536", "correlation within examples and classes", (DISTLoss,)),
    Method("cwd", "Shu et al. ICCV 2021, 2011.13256", "where in the image each class is", (CWDLoss,), kd_weight=3.0),
    Method("mlkd", "Jin et al. CVPR 2023", "KD and relations, each at five temperatures", (MLKDLoss,), 0.1, 0.9),
    Method("ls-kd", _LS, "KD on standardized logits", (Standardized, KDLoss), 0.1, 9.0, 0, {"temperature": 2.0}),
    Method("ls-dkd", _LS, "DKD on standardized logits", (Standardized, DKDLoss), 1.0, 9.0, 20, {"temperature": 2.0}),
    Method("ls-gdkd", _LS, "GDKD on standardized logits", (Standardized, GDKDLoss), warmup_epochs=20),
    Method("ls-ldrld", _LS, "LDRLD on standardized logits", (Standardized, LDRLDLoss)),
    Method("sdd-kd", _SDD, "KD on every region", (SDDLoss, KDLoss), 0.1, 0.9),
    Method("sdd-dkd", _SDD, "DKD on every region", (SDDLoss, DKDLoss), warmup_epochs=20, overrides=_BETA2),
    Method("sdd-nkd", _SDD, "NKD on every region", (SDDLoss, NKDLoss), warmup_epochs=20),
    Method("sdd-gdkd", _SDD, "GDKD on every region", (SDDLoss, GDKDLoss), warmup_epochs=20),
    Method("sdd-ldrld", _SDD, "LDRLD on every region", (SDDLoss, LDRLDLoss)),
    Method("icd-kd", _ICD, "SDD-KD and the regions' Gram structure", (ICDLoss, SDDLoss, KDLoss), 0.1, 0.9),
    Method("icd-dkd", _ICD, "SDD-DKD and Gram structure", (ICDLoss, SDDLoss, DKDLoss), 1.0, 1.0, 20, _BETA2),
    Method("icd-nkd", _ICD, "SDD-NKD and Gram structure", (ICDLoss, SDDLoss, NKDLoss), warmup_epochs=20),
    Method("icd-gdkd", _ICD, "SDD-GDKD and Gram structure", (ICDLoss, SDDLoss, GDKDLoss), warmup_epochs=20),
    Method("block-kd", _BLOCK, "the student's first blocks in the teacher's place", (BlockKDLoss, KDLoss), ce_weight=0.0),
    Method("block-dkd", _BLOCK, "Block-KD with DKD as its distance", (BlockKDLoss, DKDLoss), ce_weight=0.0),
    Method("block-gdkd", _BLOCK, "Block-KD with GDKD as its distance", (BlockKDLoss, GDKDLoss), ce_weight=0.0),
    Method("block-ldrld", _BLOCK, "Block-KD with LDRLD as its distance", (BlockKDLoss, LDRLDLoss), ce_weight=0.0),
):
    _TABLE[_row.name] = _row  # a loss is built when it is first asked for
