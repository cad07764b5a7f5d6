"""The kinds of model that are exported; `conftest.kinds` says what each is. Training and exporting one takes about 15 seconds."""

import pytest

OTHER_KINDS = tuple(pytest.param(kind, marks=pytest.mark.slow) for kind in ("paper", "classes"))
EVERY_KIND = pytest.mark.parametrize("kind", ["flow", *OTHER_KINDS])
