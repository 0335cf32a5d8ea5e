"""What can go wrong with a bundle, and the exit code of each."""

REFUSED = 6
"""The bundle is not what it says, or nobody who is trusted signed it."""
WRONG_USE = 2
"""Wrong arguments, or an image that cannot be read."""
CANNOT_RUN = 4
"""The bundle is right, and this machine lacks what it needs."""
SELF_TEST_FAILED = 1
"""The engine runs and does not answer as it did where it was measured."""


class BundleError(Exception):
    """A failure with one clear sentence (`what`) and, where there is one, the remedy (`fix`)."""

    exit_code = CANNOT_RUN

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what if not fix else "%s (%s)" % (what, fix))
        self.what = what
        self.fix = fix


class BundleRefused(BundleError):
    """The bundle is damaged, was changed, or is not signed by who must sign it. Nothing of it was loaded."""

    exit_code = REFUSED

    def __init__(
        self, what: str, fix: str = "take a copy that is complete, or make the bundle again"
    ) -> None:
        super().__init__(what, fix)


class ImageRefused(BundleError):
    """An image that cannot be read; nothing else is wrong."""

    exit_code = WRONG_USE


class CannotRun(BundleError):
    """This machine lacks a package, or is not the one that the engine was built for."""


class SelfTestFailed(BundleError):
    """Answers, pixels or times are not those that were measured."""

    exit_code = SELF_TEST_FAILED


def shown(value: object) -> str:
    """A value from outside, short and without what a terminal would act on."""
    text = ascii(value)
    return text if len(text) <= 120 else text[:117] + "..."
