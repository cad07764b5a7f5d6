"""Every error this project raises on purpose.

    MedsegError
    ├── ImageError        an image that cannot be read, or does not fit the model   (ValueError)
    ├── BundleError       a bundle that is missing, damaged or not ours             (ValueError)
    ├── BackendError      an engine that is not installed, or failed                (RuntimeError)
    │   └── EngineError   TensorRT engines that are missing, damaged, or for something else
    ├── ParameterError    an argument outside its range                             (ValueError)
    ├── OutputError       a result folder that cannot be written                    (OSError)
    ├── DataError         a training data set that is incomplete                    (ValueError)
    ├── CheckpointError   a training run that cannot be read or continued           (ValueError)
    └── ExportError       a graph that cannot be exported, or fails parity          (RuntimeError)

The command line prints one of these as one line and exits with 1; anything else is a defect and keeps its traceback.
"""

from __future__ import annotations


class MedsegError(Exception):
    """The root of the tree: what is wrong, then what to do about it.

    problem: one clause, without a full stop.
    remedy: one imperative sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}")

    def __reduce__(self) -> tuple[type[MedsegError], tuple[str, str]]:
        """Let it be copied, and raised again in the process that asked another one for the work."""
        return type(self), (self.problem, self.remedy)


class ImageError(MedsegError, ValueError):
    """The image cannot be read, or does not fit the model."""


class BundleError(MedsegError, ValueError):
    """The bundle is missing, damaged, or of a schema that this version does not know."""


class BackendError(MedsegError, RuntimeError):
    """The inference engine is not installed, is not the one asked for, or failed."""


class EngineError(BackendError):
    """TensorRT engines cannot be built, are missing or damaged, or were built for another library, GPU or graph."""


class ParameterError(MedsegError, ValueError):
    """An argument is outside its range."""


class OutputError(MedsegError, OSError):
    """The result folder exists already or cannot be written."""


class DataError(MedsegError, ValueError):
    """The training data are missing, unpaired, or not in a layout that we know."""


class CheckpointError(MedsegError, ValueError):
    """A training run cannot be read, or its configuration is not the one it was started with."""


class ExportError(MedsegError, RuntimeError):
    """A graph could not be exported, or does not agree with the network it came from."""
