"""A trainer for tests of what happens on a learned loss."""

from reloss_hf import ReLossTrainer
from reloss_hf.learning.candidates import CandidateLearner


class Forced(ReLossTrainer):
    """Uses what was learned, whatever the report says, and learns from few candidates in few steps."""

    sets, candidates, steps = 3, 8, 25

    def _learn(self, *evidence):
        if isinstance(self.learner, CandidateLearner):
            self.learner.sets, self.learner.candidates, self.learner.steps = self.sets, self.candidates, self.steps
        surrogate, report, objection = super()._learn(*evidence)
        return surrogate, report, None if surrogate is not None else objection
