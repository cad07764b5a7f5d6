"""What a command wrote on stderr."""

PART = "their volume may be that of a part, so segment more slices"


def other_than_a_part(err: str) -> list[str]:
    """Return the lines of stderr but the warning that a few slices of a finding may be a part of it."""
    return [line for line in err.splitlines() if not line.endswith(PART)]
