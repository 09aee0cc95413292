//! Whether the models of a plan fit where they start and what they learn from, before any of them is there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use distill::objective::Layerwise;
use masformer_core::{MixerSpec, SpanAttentionConfig};

use crate::{
    error::Error,
    recipe::{ModelPlan, Origin},
};

/// What must be known of a model to know what can be made of it.
#[derive(Clone)]
pub(super) struct Shape {
    /// Span attention as every layer would have it.
    pub attention: SpanAttentionConfig,
    /// What each layer mixes tokens with, from the bottom; empty where all layers are attention.
    pub mixers: Vec<MixerSpec>,
    /// Number of transformer layers L.
    pub layers: usize,
    /// Feed-forward width F.
    pub width: usize,
    /// The folder that it has expert layers from, if it has any.
    pub experts: Option<PathBuf>,
}

/// Checks every model of a plan: `start` is the model to begin with, and `folder` opens another one.
pub(super) fn check(
    plan: &[ModelPlan],
    start: &Shape,
    folder: impl Fn(&ModelPlan, &Path) -> Result<Shape, Error>,
) -> Result<(), Error> {
    let mut shapes: BTreeMap<&str, Shape> = BTreeMap::new();
    for model in plan {
        let origin = match &model.from {
            Origin::Start => start.clone(),
            Origin::Model(name) => shapes[name.as_str()].clone(),
            Origin::Folder(dir) => folder(model, dir)?,
            Origin::Random(random) => Shape {
                attention: random.attention(start.attention.direction),
                mixers: vec![],
                layers: random.layers,
                width: random.width,
                experts: None,
            },
        };
        let shape = shape(model, origin)?;
        if let Some(teacher) = &model.teacher {
            check_layers(model, shape.layers, shapes[teacher.as_str()].layers)?;
        }
        shapes.insert(&model.name, shape);
    }
    Ok(())
}

/// The shape of a model of this origin.
fn shape(model: &ModelPlan, origin: Shape) -> Result<Shape, Error> {
    let named = |source| Error::Model {
        name: model.name.clone(),
        source,
    };
    let mut shape = origin;
    if let Some(spans) = &model.spans {
        spans.spans(shape.layers).map_err(named)?;
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
    }
    if let Some(experts) = &model.experts {
        let fits = experts.partition(0).validate(shape.width);
        fits.map_err(|source| Error::ModelExperts {
            name: model.name.clone(),
            source,
        })?;
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
