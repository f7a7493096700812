import pytest
from toy_poses import make_rows


@pytest.fixture(scope="session")
def rows():
    return make_rows(80)
