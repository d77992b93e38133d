"""The limits of a training, and what it says about them at the start."""

from __future__ import annotations

import dataclasses
import math

from netgen.capture.errors import first_names

DEFAULT_MINUTES = 10.0  # minutes of a training that is given neither minutes nor steps
MAX_EPOCHS = 300  # a training without `training_steps` ends after so many epochs: more only memorises
MIN_STEPS = 3000  # but not before so many steps, however few flows there are

#: Fraction of the minutes reserved for calibration, which takes as long after a short training as after a long one.
CALIBRATION_FRACTION = 0.1

FEW_FLOWS = 20  # flows of a class below which training warns


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of a training; the first one reached ends it."""

    minutes: float | None  # including calibration and earlier sessions; None: no limit
    training_steps: int | None  # including earlier sessions; None: `MAX_EPOCHS` epochs, but at least `MIN_STEPS`
    flows: int  # training flows
    batch: int  # flows per step
    calibrated: bool = True  # whether a calibration follows

    def __post_init__(self) -> None:
        if self.minutes is None and self.training_steps is None:
            object.__setattr__(self, "minutes", DEFAULT_MINUTES)

    @property
    def max_steps(self) -> int:
        """Steps after which the training ends at the latest."""
        return self.training_steps or max(math.ceil(MAX_EPOCHS * self.flows / self.batch), MIN_STEPS)

    @property
    def seconds(self) -> float | None:
        """Seconds of training without calibration; None: no limit."""
        if self.minutes is None:
            return None
        return 60 * self.minutes * (1 - CALIBRATION_FRACTION * self.calibrated)

    def epochs(self, steps: int) -> float:
        """Return the epochs in a number of steps."""
        return steps * self.batch / self.flows

    def limit(self, steps: int) -> str:
        """Return what ends, or ended, a training of `steps` steps: training_steps, epochs or minutes."""
        if steps < self.max_steps:
            return "minutes"
        return "training_steps" if self.training_steps else "epochs"


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What a training is about to do."""

    budget: Budget
    validation_flows: int  # flows held out for validation
    counts: dict[str, int]  # training flows of each class
    seconds_per_step: float | None = None  # measured before the training; None: unknown

    @property
    def limit(self) -> str | None:
        """What will end the training, if the speed does not change; None: unknown."""
        budget = self.budget
        if budget.seconds is None:
            return budget.limit(budget.max_steps)
        if self.seconds_per_step is None:
            return None
        return budget.limit(min(budget.max_steps, int(budget.seconds / self.seconds_per_step)))

    @property
    def warnings(self) -> list[str]:
        """Reasons to expect a poor model."""
        small = sorted((count, name) for name, count in self.counts.items() if count < FEW_FLOWS)
        if not small:
            return []
        names = first_names([f"{name} ({count})" for count, name in small])
        return [f"classes with fewer than {FEW_FLOWS} training flows: {names}"]

    def __str__(self) -> str:
        budget = self.budget
        steps = f"{budget.max_steps:,} steps"
        if not budget.training_steps:
            steps += f" ({budget.epochs(budget.max_steps):,.0f} passes over the {budget.flows:,} training flows)"
        minutes = f"{budget.minutes} minutes" + (", calibration included" if budget.calibrated else "")
        end = {None: f"{steps} or {minutes}, whichever comes first", "minutes": minutes}.get(self.limit, steps)
        if self.seconds_per_step and end == steps:
            end += f", in about {max(budget.max_steps * self.seconds_per_step / 60, 0.1):.1f} minutes"
        held_out = f"{self.validation_flows:,} flows are" if self.validation_flows else "No flows are"
        return f"Training will end after {end}. {held_out} held out for validation."
