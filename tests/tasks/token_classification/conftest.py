import pytest
from toy_tags import make_features


@pytest.fixture(scope="session")
def small():
    return make_features(200)
