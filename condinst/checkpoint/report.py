"""What happened to every tensor when a checkpoint was loaded."""

from __future__ import annotations

from dataclasses import dataclass

from condinst.errors import UserError

Shape = tuple[int, ...]

KIND_NAMES = {
    "condinst": "CondInst Lab",
    "adelaidet": "AdelaiDet",
    "epiphqny": "Epiphqny/CondInst",
    "detectron2-backbone": "detectron2 backbone",
    "caffe2-backbone": "Caffe2 backbone (MSRA, FAIR)",
    "torchvision-backbone": "torchvision ResNet",
    "vovnet-backbone": "VoVNet of vovnet-detectron2",
    "mobilenetv2-backbone": "MobileNetV2 of the public implementations",
    "dla-backbone": "DLA",
    "timm-backbone": "timm",
    "unknown": "unknown origin",
}


@dataclass(frozen=True)
class LoadReport:
    """Fate of every tensor of the checkpoint and of the model.

    Attributes:
        kind: who wrote the checkpoint, a key of `KIND_NAMES`.
        loaded: names in the model that got their value from the checkpoint.
        missing: names in the model that are not in the checkpoint; they keep their values.
        unexpected: names in the checkpoint that are not in the model.
        ill_shaped: (name, shape in the checkpoint, shape in the model); they keep their values.
        ignored: (name, reason) of tensors that are not needed.
        notes: anything else worth knowing, one sentence each.
    """

    kind: str
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    ill_shaped: tuple[tuple[str, Shape, Shape], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model was loaded and every tensor of the file used."""
        return not (self.missing or self.unexpected or self.ill_shaped)

    def __str__(self) -> str:
        """The report as text, including every name that was not loaded."""
        lines = [
            f"checkpoint of {KIND_NAMES.get(self.kind, self.kind)}: {len(self.loaded)} loaded, "
            f"{len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.ill_shaped)} ill-shaped, {len(self.ignored)} ignored"
        ]
        lines += [f"  missing      {name}" for name in self.missing]
        lines += [f"  unexpected   {name}" for name in self.unexpected]
        lines += [
            f"  ill-shaped   {name}: {in_file} in the checkpoint, {in_model} in the model"
            for name, in_file, in_model in self.ill_shaped
        ]
        lines += [f"  ignored      {name}: {reason}" for name, reason in self.ignored]
        lines += [f"  note         {note}" for note in self.notes]
        return "\n".join(lines)


class CheckpointMismatch(UserError):
    """The checkpoint has a different architecture; the model is unchanged.

    Attributes:
        report: what would have been loaded.
    """

    def __init__(self, message: str, report: LoadReport) -> None:
        """Keep the report beside the message.

        Args:
            message: text for the user.
            report: fate of every tensor.
        """
        super().__init__(message)
        self.report = report
