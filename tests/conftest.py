"""Fixtures of many tests. What they are made of is in `support`, which every test imports from."""

import gc
import os
import random
from functools import partial
from unittest.mock import patch

# Models are so small that a second thread costs more than it does: here, and in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from toy_translation import build_toy_model, make_tokenizer, make_toy_data
from transformers import DataCollatorForSeq2Seq

pytest_plugins = ["toy_training"]
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def frozen_imports():
    """The Trainer collects garbage at every start: a second each time, unless what was imported is left out."""
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def toy_data(tokenizer):
    return partial(make_toy_data, tokenizer)


@pytest.fixture
def toy_model(tokenizer):
    def make(seed=0):
        return build_toy_model(tokenizer, seed)

    return make


@pytest.fixture
def warm_model(toy_model, warm_weights):
    def make():
        model = toy_model()
        model.load_state_dict(warm_weights)
        return model

    return make


@pytest.fixture(autouse=True)
def environment_is_left_as_it_was():
    """`torch_compile` and others are settings of the Trainer that last, in the environment, for all that follow."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def warm_weights(toy_data, tokenizer):
    """Weights of a `toy_model` that has learned about half of the toy translation."""
    model = build_toy_model(tokenizer, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    examples, collate = list(toy_data(1000, seed=9)), DataCollatorForSeq2Seq(tokenizer)
    draw = random.Random(0)
    for _ in range(110):
        model(**collate(draw.sample(examples, 32))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.fixture
def collator(tokenizer):
    return DataCollatorForSeq2Seq(tokenizer)
