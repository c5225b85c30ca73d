"""Moved: rnnvg.files is the one home of writing."""

from rnnvg.files import MachineError, StorageError, check_room, disk_faults_named, write_whole

__all__ = ["MachineError", "StorageError", "check_room", "disk_faults_named", "write_whole"]
