"""The doctor's patients."""

from collections.abc import Iterator

import pytest

from doctor.patient import Patient, patient_15, patient_18


@pytest.fixture(scope="module")
def eighteen() -> Iterator[Patient]:
    yield from patient_18()


@pytest.fixture(scope="module")
def fifteen() -> Iterator[Patient]:
    yield from patient_15()


@pytest.fixture(params=["eighteen", "fifteen"])
def patient(request: pytest.FixtureRequest) -> Patient:
    server: Patient = request.getfixturevalue(request.param)
    return server
