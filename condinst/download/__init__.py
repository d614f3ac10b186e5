"""Files over the network: parallel ranges, resumed, retried, verified."""

from condinst.download.http import Patience
from condinst.download.part import held
from condinst.download.ranges import RemoteFile, fetch

__all__ = ["Patience", "RemoteFile", "fetch", "held"]
