from __future__ import annotations

import gc

import pytest

from pipeline.starting import importing


def test_the_collector_rests_while_libraries_are_imported() -> None:
    before = gc.get_freeze_count()
    try:
        with importing():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() - before >= len(made)
        with pytest.raises(ModuleNotFoundError), importing():
            raise ModuleNotFoundError
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
