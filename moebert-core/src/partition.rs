//! Which neurons of a dense feed-forward layer each expert owns.

use std::{fmt, str::FromStr};

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::importance::Importance;

/// The order in which the neurons of a layer are assigned to experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NeuronOrder {
    /// By falling importance: the method of the paper.
    #[default]
    Importance,
    /// Shuffled by the seed, each layer on its own: a control.
    Random,
    /// By rising importance: a control.
    Inverse,
    /// As they lie in the dense layer. The first are shared, and each expert takes the start of its
    /// own run of the others instead of every `E`-th of them: a control.
    Contiguous,
}

/// A text that names no neuron order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown neuron order `{0}`: expected `importance`, `random`, `inverse` or `contiguous`")]
pub struct NeuronOrderError(String);

impl fmt::Display for NeuronOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Importance => "importance",
            Self::Random => "random",
            Self::Inverse => "inverse",
            Self::Contiguous => "contiguous",
        })
    }
}

impl FromStr for NeuronOrder {
    type Err = NeuronOrderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "importance" => Ok(Self::Importance),
            "random" => Ok(Self::Random),
            "inverse" => Ok(Self::Inverse),
            "contiguous" => Ok(Self::Contiguous),
            other => Err(NeuronOrderError(other.to_owned())),
        }
    }
}

impl TryFrom<String> for NeuronOrder {
    type Error = NeuronOrderError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NeuronOrder> for String {
    fn from(order: NeuronOrder) -> Self {
        order.to_string()
    }
}

impl NeuronOrder {
    /// Whether the order needs importance scores.
    pub fn needs_importance(self) -> bool {
        matches!(self, Self::Importance | Self::Inverse)
    }
}

/// A partition that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// There would be no experts, or experts without neurons.
    #[error("{experts} experts of {expert_width} neurons: both must be at least 1")]
    Empty {
        /// Experts `E`.
        experts: usize,
        /// Neurons per expert, `d_e`.
        expert_width: usize,
    },
    /// There are fewer neurons than experts.
    #[error("{experts} experts cannot share {width} neurons; at most {width} experts are possible")]
    TooManyExperts {
        /// Experts `E`.
        experts: usize,
        /// Neurons of the dense layer `F`.
        width: usize,
    },
    /// More neurons are shared than an expert or the dense layer has.
    #[error("{shared} shared neurons do not fit into {container}; at most {limit} can be shared")]
    TooManyShared {
        /// Shared neurons `s`.
        shared: usize,
        /// What they do not fit into.
        container: &'static str,
        /// Its number of neurons.
        limit: usize,
    },
    /// The neurons that are not shared cannot be divided evenly.
    #[error(
        "{width} neurons less {shared} shared cannot be dealt evenly to {experts} experts; \
         {shared_that_fits} shared or {experts_that_fit} experts would fit"
    )]
    Ragged {
        /// Neurons of the dense layer `F`.
        width: usize,
        /// Shared neurons `s`.
        shared: usize,
        /// Experts `E`.
        experts: usize,
        /// The nearest number of shared neurons that works.
        shared_that_fits: usize,
        /// The nearest number of experts that works.
        experts_that_fit: usize,
    },
    /// An expert would have more neurons than there are for it.
    #[error(
        "an expert of {expert_width} neurons is too wide: {shared} shared and a share of 1/{experts} \
         of the others make {limit}"
    )]
    TooWide {
        /// Neurons per expert, `d_e`.
        expert_width: usize,
        /// Shared neurons `s`.
        shared: usize,
        /// Experts `E`.
        experts: usize,
        /// The largest possible `d_e`.
        limit: usize,
    },
    /// The order needs importance scores and there are none.
    #[error("the neuron order `{0}` needs importance scores; compute them first")]
    NoImportance(NeuronOrder),
    /// The importance scores belong to another model.
    #[error(
        "the importance scores cover {found_layers} layers of {found_width} neurons; \
         the model has {layers} of {width}"
    )]
    ImportanceShape {
        /// Layers of the scores.
        found_layers: usize,
        /// Neurons per layer of the scores.
        found_width: usize,
        /// Layers of the model.
        layers: usize,
        /// Neurons per layer of the model.
        width: usize,
    },
}

/// How to cut each dense feed-forward layer into experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionConfig {
    /// Experts per layer, `E`.
    pub experts: usize,
    /// Neurons per expert, `d_e`.
    pub expert_width: usize,
    /// Neurons that every expert has, `s`; 0 shares none, `d_e` makes all experts equal.
    pub shared: usize,
    /// The order in which neurons are assigned.
    #[serde(default)]
    pub order: NeuronOrder,
    /// The seed of a random order; the others ignore it.
    #[serde(default)]
    pub seed: u64,
}

/// The neurons of every expert: `neurons[layer][expert]` lists `d_e` indices into the dense layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertLayout {
    /// `L x E x d_e` neuron indices; the shared ones come first.
    pub neurons: Vec<Vec<Vec<usize>>>,
}

impl PartitionConfig {
    /// Checks that layers of `width` neurons (`F`) can be cut this way.
    ///
    /// # Errors
    ///
    /// Names the value that does not fit and one that would.
    pub fn validate(&self, width: usize) -> Result<(), PartitionError> {
        let &Self {
            experts,
            expert_width,
            shared,
            ..
        } = self;
        if experts == 0 || expert_width == 0 {
            return Err(PartitionError::Empty {
                experts,
                expert_width,
            });
        }
        if experts > width {
            return Err(PartitionError::TooManyExperts { experts, width });
        }
        for (container, limit) in [("an expert", expert_width), ("the dense layer", width)] {
            if shared > limit {
                return Err(PartitionError::TooManyShared {
                    shared,
                    container,
                    limit,
                });
            }
        }
        if shared == expert_width {
            return Ok(());
        }
        let others = width - shared;
        let limit = shared + others / experts;
        if expert_width > limit {
            return Err(PartitionError::TooWide {
                expert_width,
                shared,
                experts,
                limit,
            });
        }
        if others.is_multiple_of(experts) {
            return Ok(());
        }
        // Sharing every neuron of an expert works for any number of experts, and one expert for any
        // number of shared neurons.
        let fits = |experts, shared| {
            let others: usize = width - shared;
            others.is_multiple_of(experts) && expert_width <= shared + others / experts
        };
        Err(PartitionError::Ragged {
            width,
            shared,
            experts,
            shared_that_fits: (0..expert_width)
                .filter(|&candidate| fits(experts, candidate))
                .chain([expert_width])
                .min_by_key(|candidate| candidate.abs_diff(shared))
                .unwrap_or(expert_width),
            experts_that_fit: (1..=width)
                .filter(|&candidate| fits(candidate, shared))
                .min_by_key(|candidate| candidate.abs_diff(experts))
                .unwrap_or(1),
        })
    }

    /// Assigns the neurons of one layer, given in their order, to the experts.
    fn assign(&self, neurons: &[usize]) -> Vec<Vec<usize>> {
        let (shared, others) = neurons.split_at(self.shared);
        let own = self.expert_width - self.shared;
        (0..self.experts)
            .map(|expert| {
                let (start, step) = match self.order {
                    NeuronOrder::Contiguous => (expert * (others.len() / self.experts), 1),
                    _ => (expert, self.experts),
                };
                let owned = others.iter().skip(start).step_by(step).take(own);
                shared.iter().chain(owned).copied().collect()
            })
            .collect()
    }
}

impl ExpertLayout {
    /// The number of layers `L`.
    pub fn layers(&self) -> usize {
        self.neurons.len()
    }

    /// The number of experts per layer, `E`.
    pub fn experts(&self) -> usize {
        self.neurons.first().map_or(0, Vec::len)
    }

    /// The number of neurons per expert, `d_e`.
    pub fn expert_width(&self) -> usize {
        let first = self.neurons.first().and_then(|experts| experts.first());
        first.map_or(0, Vec::len)
    }
}

/// Cuts `layers` dense layers of `width` neurons (`F`) into experts (`MoEBERT`, arXiv 2204.07675,
/// section 3.2).
///
/// With the neurons of a layer in the chosen order, the first `s` are `top` and the others `rest`.
/// Expert `e` owns the first `d_e` of
///
/// ```text
/// top, rest[e], rest[e + E], rest[e + 2E], ...
/// ```
///
/// so that important neurons are spread evenly. Scores may be given for an order that ignores them.
///
/// # Errors
///
/// If [`PartitionConfig::validate`] refuses the numbers, or scores are missing or of another model.
pub fn partition(
    config: &PartitionConfig,
    importance: Option<&Importance>,
    layers: usize,
    width: usize,
) -> Result<ExpertLayout, PartitionError> {
    config.validate(width)?;
    let importance = match importance {
        Some(scores) if (scores.layers(), scores.width()) != (layers, width) => {
            return Err(PartitionError::ImportanceShape {
                found_layers: scores.layers(),
                found_width: scores.width(),
                layers,
                width,
            });
        }
        scores => scores.ok_or(PartitionError::NoImportance(config.order)),
    };
    let neurons = (0..layers)
        .map(|layer| {
            let order = match config.order {
                NeuronOrder::Importance => importance.clone()?.order(layer),
                NeuronOrder::Inverse => {
                    let mut order = importance.clone()?.order(layer);
                    order.reverse();
                    order
                }
                NeuronOrder::Random => shuffled(width, config.seed, layer),
                NeuronOrder::Contiguous => (0..width).collect(),
            };
            Ok(config.assign(&order))
        })
        .collect::<Result<_, _>>()?;
    Ok(ExpertLayout { neurons })
}

/// The neurons of a layer in an order that depends on the seed and the layer alone.
fn shuffled(width: usize, seed: u64, layer: usize) -> Vec<usize> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(layer as u64).to_le_bytes());
    let mut neurons: Vec<usize> = (0..width).collect();
    neurons.shuffle(&mut StdRng::from_seed(bytes));
    neurons
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const ORDERS: [NeuronOrder; 4] = [
        NeuronOrder::Importance,
        NeuronOrder::Random,
        NeuronOrder::Inverse,
        NeuronOrder::Contiguous,
    ];

    fn config(experts: usize, expert_width: usize, shared: usize) -> PartitionConfig {
        PartitionConfig {
            experts,
            expert_width,
            shared,
            order: NeuronOrder::Importance,
            seed: 0,
        }
    }

    fn falling(layers: usize, width: usize) -> Importance {
        let row: Vec<f32> = (0..width).map(|neuron| (width - neuron) as f32).collect();
        Importance::from_scores(vec![row; layers], 1).unwrap()
    }

    #[test]
    fn the_rule_by_hand() {
        let scores = vec![vec![0.0, 5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0]];
        let importance = Importance::from_scores(scores, 1).unwrap();
        let cut = |order, expert_width, shared| {
            let config = PartitionConfig {
                order,
                ..config(2, expert_width, shared)
            };
            let layout = partition(&config, Some(&importance), 1, 8).unwrap();
            layout.neurons[0].clone()
        };
        // Falling importance: 7 6 1 3 5 4 2 0.
        let order = NeuronOrder::Importance;
        assert_eq!(cut(order, 4, 2), [[7, 6, 1, 5], [7, 6, 3, 4]]);
        assert_eq!(cut(order, 4, 0), [[7, 1, 5, 2], [6, 3, 4, 0]]);
        assert_eq!(cut(order, 3, 3), [[7, 6, 1], [7, 6, 1]]);
        assert_eq!(
            cut(NeuronOrder::Inverse, 4, 2),
            [[0, 2, 4, 3], [0, 2, 5, 1]]
        );
        assert_eq!(
            cut(NeuronOrder::Contiguous, 4, 2),
            [[0, 1, 2, 3], [0, 1, 5, 6]]
        );
    }

    #[test]
    fn text_forms_round_trip() {
        for order in ORDERS {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        let error = "falling".parse::<NeuronOrder>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`falling`: expected `importance`")
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_would() {
        let message = |config: PartitionConfig, width| match config.validate(width) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(message(config(4, 768, 512), 3072), "accepted");
        assert_eq!(message(config(4, 768, 0), 3072), "accepted");
        assert_eq!(message(config(4, 767, 767), 3072), "accepted");
        assert_eq!(
            message(config(0, 8, 0), 16),
            "0 experts of 8 neurons: both must be at least 1"
        );
        assert_eq!(
            message(config(17, 1, 0), 16),
            "17 experts cannot share 16 neurons; at most 16 experts are possible"
        );
        assert_eq!(
            message(config(2, 8, 9), 16),
            "9 shared neurons do not fit into an expert; at most 8 can be shared"
        );
        assert_eq!(
            message(config(2, 20, 17), 16),
            "17 shared neurons do not fit into the dense layer; at most 16 can be shared"
        );
        assert_eq!(
            message(config(4, 768, 513), 3072),
            "3072 neurons less 513 shared cannot be dealt evenly to 4 experts; \
             512 shared or 3 experts would fit"
        );
        assert_eq!(
            message(config(4, 1153, 512), 3072),
            "an expert of 1153 neurons is too wide: 512 shared and a share of 1/4 of the others \
             make 1152"
        );
    }

    #[test]
    fn missing_or_foreign_scores_are_refused() {
        let error = partition(&config(2, 4, 2), None, 1, 8).unwrap_err();
        assert_eq!(error, PartitionError::NoImportance(NeuronOrder::Importance));
        let error = partition(&config(2, 4, 2), Some(&falling(1, 8)), 2, 8).unwrap_err();
        assert!(error.to_string().contains("the model has 2 of 8"));
    }

    #[test]
    fn random_layers_differ_and_follow_the_seed() {
        let random = |seed| {
            let config = PartitionConfig {
                order: NeuronOrder::Random,
                seed,
                ..config(4, 32, 16)
            };
            partition(&config, None, 2, 80).unwrap()
        };
        assert_ne!(random(0).neurons[0], random(0).neurons[1]);
        assert_ne!(random(0).neurons[0], random(1).neurons[0]);
    }

    /// Any numbers of experts, shared neurons and neurons per expert that a layer can be split into.
    fn valid() -> impl Strategy<Value = (PartitionConfig, usize)> {
        (1..6_usize, 0..8_usize, 1..8_usize, 0..4_usize, any::<u64>()).prop_flat_map(
            |(experts, shared, share, order, seed)| {
                let least = usize::from(shared == 0);
                (least..=share).prop_map(move |own| {
                    let config = PartitionConfig {
                        experts,
                        expert_width: shared + own,
                        shared,
                        order: ORDERS[order],
                        seed,
                    };
                    (config, shared + share * experts)
                })
            },
        )
    }

    proptest! {
        #[test]
        fn experts_are_full_and_overlap_in_the_shared_neurons_alone((config, width) in valid()) {
            let importance = falling(3, width);
            let layout = partition(&config, Some(&importance), 3, width).unwrap();
            prop_assert_eq!(&layout, &partition(&config, Some(&importance), 3, width).unwrap());
            for experts in &layout.neurons {
                prop_assert_eq!(experts.len(), config.experts);
                let (shared, _) = experts[0].split_at(config.shared);
                let mut owned = HashSet::new();
                for neurons in experts {
                    prop_assert_eq!(neurons.len(), config.expert_width);
                    let (common, own) = neurons.split_at(config.shared);
                    prop_assert_eq!(common, shared);
                    prop_assert!(own.iter().all(|neuron| owned.insert(*neuron)));
                }
                let distinct: HashSet<_> = owned.iter().chain(shared).collect();
                prop_assert_eq!(distinct.len(), owned.len() + config.shared);
                prop_assert!(distinct.iter().all(|neuron| **neuron < width));
            }
        }

        #[test]
        fn a_suggested_setting_is_accepted(
            experts in 1..9_usize, expert_width in 1..40_usize, shared in 0..40_usize, width in 1..60_usize
        ) {
            let config = config(experts, expert_width, shared);
            if let Err(PartitionError::Ragged { shared_that_fits, experts_that_fit, .. }) = config.validate(width) {
                let suggested = PartitionConfig { shared: shared_that_fits, ..config.clone() };
                prop_assert_eq!(suggested.validate(width), Ok(()));
                let suggested = PartitionConfig { experts: experts_that_fit, ..config };
                prop_assert_eq!(suggested.validate(width), Ok(()));
            }
        }
    }
}
