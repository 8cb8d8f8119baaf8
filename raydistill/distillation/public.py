"""The public names of the library, which `raydistill.distillation` gives."""

from raydistill.distillation.characteristic import characteristic_matching
from raydistill.distillation.coreset import Coreset, class_mean, cluster_mean, herding, k_center, noise, random_real
from raydistill.distillation.difficulty import (
    easiest,
    el2n_scores,
    forgetting_events,
    moderate,
    rded,
    window_for_budget,
)
from raydistill.distillation.distiller import Distiller, Record
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.engines import Adjoint, Unrolled
from raydistill.distillation.engines.base import matching_loss
from raydistill.distillation.gradients import cosine_distance, gradient_matching
from raydistill.distillation.heads import HeadDistiller
from raydistill.distillation.initial import expert_labels, hard_labels, initial_images, initial_labels
from raydistill.distillation.matching import Batch, Matcher, MatchResult
from raydistill.distillation.methods import att, datm, ftd, mct, mtt, pad, stm, tesla
from raydistill.distillation.options import (
    SGD,
    Adam,
    CharacteristicMatching,
    DistributionMatching,
    GradientMatching,
    ImageComponents,
    ImageGenerator,
    ImagePixels,
    ImagePyramid,
    MatchTrajectories,
    OutcomeMatching,
    RidgeHead,
)
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import (
    Decision,
    Fixed,
    LossWeighted,
    Matched,
    Schedule,
    ScheduleBase,
    ScheduleState,
    SelfAdaptive,
    StepwiseWindow,
)
from raydistill.distillation.space import Components, Pyramid, Tiles, image_space
from raydistill.distillation.trajectories import InMemoryTrajectories, Trajectories, final_parameters
from raydistill.learning.architectures import MLP, VGG11, AlexNet, ConvNet, PooledConvNet, ResNet18, ViT
from raydistill.learning.augment import Augmentation
from raydistill.learning.encoders import Encoder, frozen_encoders
from raydistill.learning.heads import ridge_head
from raydistill.learning.losses import LossFunction, cross_entropy, student_loss
from raydistill.learning.networks import Network, build_network, embedding, initial_parameters
from raydistill.learning.normalise import Normalisation, one_hot
from raydistill.learning.options import Training
from raydistill.learning.sharpness import SharpnessAware
from raydistill.learning.training import evaluate, fit, predict, train
from raydistill.seeding import fold_in, generator
