"""medseg-train: fit, evaluate, show."""

from __future__ import annotations
