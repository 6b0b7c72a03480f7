"""What comes of a look at a target."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking at a target that nobody had changed."""

    well: bool = True
    """Else it failed, which is told and counted."""
    changed: bool = False
    """It is held in another way than before."""
    repaired: bool = False
    """Something of ours had been taken off or changed, and is back."""
    is_idle: bool = False
    """Everything was as it should be."""
