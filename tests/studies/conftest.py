"""The demo's data set, a small part of it, and a remote model trained on that part and served by a real process."""

import pytest

from bisupervised.studies.demo_models import train_remote
from bisupervised.studies.demo_remote import running_server
from bisupervised.studies.demo_reviews import load_reviews, split_reviews


@pytest.fixture(scope="session")
def reviews():
    return load_reviews()


@pytest.fixture(scope="session")
def parts(reviews):
    return split_reviews(reviews, train=600, calibration=100, test=100, seed=0)


@pytest.fixture(scope="session")
def trained(parts):
    return train_remote(parts.train)


@pytest.fixture(scope="session")
def server_url(trained):
    with running_server(trained, delay_s=0.0) as url:
        yield url
