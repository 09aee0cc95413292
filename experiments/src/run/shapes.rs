//! Whether the models of a plan fit where they start and what they learn from, before any of them is there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use distill::objective::Layerwise;
use masformer_core::{MixerSpec, Span, SpanAttentionConfig};

use crate::{
    error::Error,
    recipe::{ModelPlan, Origin},
};

/// What must be known of a model to know what can be made of it.
#[derive(Clone)]
pub(super) struct Shape {
    /// Span attention as every layer would have it.
    pub attention: SpanAttentionConfig,
    /// What each layer attends to, from the bottom; empty where all see everything.
    pub spans: Vec<Span>,
    /// What each layer mixes tokens with, from the bottom; empty where all layers are attention.
    pub mixers: Vec<MixerSpec>,
    /// Number of transformer layers L.
    pub layers: usize,
    /// Feed-forward width F.
    pub width: usize,
    /// Matrices of a feed-forward half: 2, or 3 if it is gated.
    pub matrices: usize,
    /// Neurons that a token passes in a feed-forward half: F, or those of its experts.
    pub active: usize,
    /// The folder that it has expert layers from, if it has any.
    pub experts: Option<PathBuf>,
}

impl Shape {
    /// A dense model whose layers see everything.
    pub fn new(attention: SpanAttentionConfig, layers: usize, width: usize) -> Self {
        Self {
            attention,
            spans: vec![],
            mixers: vec![],
            layers,
            width,
            matrices: 2,
            active: width,
            experts: None,
        }
    }

    /// Multiply-adds of the layers for one token of a sequence of `length`, to compare models of a plan: `4 D^2` for
    /// projections, `2 K D` for K keys of a query, and `2 D F` or `3 D F` for a feed-forward half.
    fn multiply_adds(&self, length: usize) -> f64 {
        let (hidden, length) = (self.attention.hidden as f64, length.max(1));
        let layer = |layer: usize| {
            let span = self.spans.get(layer).copied().unwrap_or(Span::Full);
            let keys = span.pairs(self.attention.direction, length) as f64 / length as f64;
            hidden * (4.0 * hidden + 2.0 * keys + (self.matrices * self.active) as f64)
        };
        (0..self.layers).map(layer).sum()
    }
}

/// Checks every model of a plan: `start` is the model to begin with, and `folder` opens another one. Returns the
/// multiply-adds of each for one token of a sequence of `length`.
pub(super) fn check(
    plan: &[ModelPlan],
    start: &Shape,
    length: usize,
    folder: impl Fn(&ModelPlan, &Path) -> Result<Shape, Error>,
) -> Result<Vec<f64>, Error> {
    let mut shapes: BTreeMap<&str, Shape> = BTreeMap::new();
    let mut multiply_adds = vec![];
    for model in plan {
        let origin = match &model.from {
            Origin::Start => start.clone(),
            Origin::Model(name) => shapes[name.as_str()].clone(),
            Origin::Folder(dir) => folder(model, dir)?,
            Origin::Random(random) => Shape {
                matrices: start.matrices,
                ..Shape::new(
                    random.attention(start.attention.direction),
                    random.layers,
                    random.width,
                )
            },
        };
        let shape = shape(model, origin)?;
        if let Some(teacher) = &model.teacher {
            check_layers(model, shape.layers, shapes[teacher.as_str()].layers)?;
        }
        multiply_adds.push(shape.multiply_adds(length));
        shapes.insert(&model.name, shape);
    }
    Ok(multiply_adds)
}

/// The shape of a model of this origin.
fn shape(model: &ModelPlan, origin: Shape) -> Result<Shape, Error> {
    let named = |source| Error::Model {
        name: model.name.clone(),
        source,
    };
    let mut shape = origin;
    if let Some(spans) = &model.spans {
        shape.spans = spans.spans(shape.layers).map_err(named)?;
    }
    if let Some(schedule) = &model.mixers {
        let mixers = schedule.mixers(shape.layers).map_err(named)?;
        MixerSpec::check(&mixers, &shape.attention).map_err(|error| named(error.into()))?;
        if model.train.is_none()
            && let Some(layer) = MixerSpec::differing(&shape.mixers, &mixers).first()
        {
            return Err(Error::UntrainedMixers {
                name: model.name.clone(),
                layer: *layer,
            });
        }
        shape.mixers = mixers;
    }
    if let Some(path) = &shape.experts
        && (model.experts.is_some() || model.keep_layers.is_some())
    {
        return Err(Error::Experts { path: path.clone() });
    }
    if let Some(kept) = &model.keep_layers {
        let kept = kept
            .indices(shape.layers)
            .map_err(|source| Error::OfModel {
                name: model.name.clone(),
                source: source.into(),
            })?;
        shape.layers = kept.len();
        shape.mixers = kept
            .iter()
            .filter_map(|layer| shape.mixers.get(*layer).cloned())
            .collect();
        shape.spans = kept
            .iter()
            .filter_map(|layer| shape.spans.get(*layer).copied())
            .collect();
    }
    if let Some(experts) = &model.experts {
        let fits = experts.partition(0).validate(shape.width);
        fits.map_err(|source| Error::ModelExperts {
            name: model.name.clone(),
            source,
        })?;
        shape.active = experts.k * experts.width;
    }
    Ok(shape)
}

/// Checks the hidden states that a model matches with a teacher of so many layers, by layer-wise distillation.
fn check_layers(model: &ModelPlan, own: usize, teacher: usize) -> Result<(), Error> {
    let Some(settings) = model.methods.get("layerwise") else {
        return Ok(());
    };
    let settings: Result<Layerwise, _> = settings.clone().try_into();
    let settings = settings.map_err(|source| Error::OfModel {
        name: model.name.clone(),
        source: source.into(),
    })?;
    let pairs = settings.layers.pairs(own, teacher);
    pairs.map_err(|source| Error::LayerMap {
        name: model.name.clone(),
        source,
    })?;
    Ok(())
}
