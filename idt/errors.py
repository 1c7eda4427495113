"""Every error that the package raises on purpose; imports nothing, so that any part may use it."""


class IdtError(Exception):
    """Root of all errors that the package raises on purpose."""


class VideoError(IdtError):
    """A video, image folder or array cannot be used as input."""


class ParameterError(IdtError, ValueError):
    """A parameter has a value that is not allowed."""


class FormatError(IdtError):
    """A file that is read (features, boxes, homographies, parameters, list) is malformed or of another kind."""


class OutputError(IdtError):
    """A result cannot be written; `errno` is the reason of the system, if it gave one."""

    errno: int | None = None


class DeviceError(IdtError):
    """A compute device was asked for that is not there."""


class NoDeviceError(DeviceError):
    """There is no GPU, or nothing is installed that would use one."""
