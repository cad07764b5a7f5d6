"""Every error this project raises on purpose.

    MedsegError
    ├── ImageError        an image cannot be read, or does not fit the model        (ValueError)
    ├── BundleError       a bundle is missing, damaged, or of another schema        (ValueError)
    ├── BackendError      a backend is not installed, is closed, or failed          (RuntimeError)
    │   └── EngineError   TensorRT engines are missing, damaged, or built for something else
    ├── ParameterError    an argument is out of range                               (ValueError)
    ├── OutputError       a file or folder cannot be written                        (OSError)
    ├── DataError         training data are incomplete                              (ValueError)
    ├── CheckpointError   a training run cannot be read or continued                (ValueError)
    └── ExportError       a graph cannot be exported, or fails parity               (RuntimeError)

The commands print one of these as one line and exit with 1. Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return a text as one line with all unprintable characters escaped: control characters, and those that change the direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


class MedsegError(Exception):
    """The root of the tree: what is wrong, then what to do about it.

    problem: one clause, without a full stop.
    remedy: one imperative sentence.

    Characters that cannot be printed are escaped: both may quote a file, and a terminal would obey what is in it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = escaped(" ".join(problem.splitlines()))
        self.remedy = escaped(remedy)
        super().__init__(f"{self.problem}. {self.remedy}")

    def __reduce__(self) -> tuple[type[MedsegError], tuple[str, str]]:
        """Let errors pass between processes."""
        return type(self), (self.problem, self.remedy)


class ImageError(MedsegError, ValueError):
    """The image cannot be read, or does not fit the model."""


class BundleError(MedsegError, ValueError):
    """The bundle is missing, damaged, or of a schema that this version does not know."""


class BackendError(MedsegError, RuntimeError):
    """The inference library is not installed or failed, it is not the one asked for, or the segmenter is closed."""


class EngineError(BackendError):
    """TensorRT engines cannot be built, are missing or damaged, or were built for another library, GPU or graph."""


class ParameterError(MedsegError, ValueError):
    """An argument is out of range."""


class OutputError(MedsegError, OSError):
    """A result folder exists already, or a file cannot be written."""


class DataError(MedsegError, ValueError):
    """Training data are missing, unpaired, or in an unknown layout."""


class CheckpointError(MedsegError, ValueError):
    """A training run cannot be read, or its configuration is not the one it was started with."""


class ExportError(MedsegError, RuntimeError):
    """A graph could not be exported, or does not agree with the network it came from."""
