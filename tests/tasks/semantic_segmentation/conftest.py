import pytest
from toy_pixels import make_scenes


@pytest.fixture(scope="session")
def small():
    return make_scenes(100)
