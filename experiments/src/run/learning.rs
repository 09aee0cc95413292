//! What a model of a run learns from.

use distill::{Method, loss::Padding, objective::RouterLosses, surgery::ExpertPartition};
use moebert_core::layered::Layered;

use super::family::Family;
use crate::{error::Error, learner::ExpertPlan, methods, recipe::ModelPlan};

/// The methods of a training of `learner`, in the order in which they change the model and add to the loss; `split` is how
/// its feed-forward layers become experts.
pub(super) fn methods<F: Family>(
    family: &F,
    plan: &ModelPlan,
    learner: &F::Learner,
    split: Option<&ExpertPlan>,
) -> Result<Vec<Method<F::Learner>>, Error> {
    let mut methods = vec![];
    if let Some(split) = split {
        let experts = ExpertPartition::new(split.clone());
        methods.push(Method::Surgery(Box::new(experts)));
    }
    if let Some(losses) = routers(plan, learner) {
        methods.push(Method::Objective(Box::new(losses)));
    }
    methods.extend(family.callbacks());
    let others = methods::make(&plan.methods).map_err(|source| Error::OfModel {
        name: plan.name.clone(),
        source: source.into(),
    })?;
    methods.extend(others);
    Ok(methods)
}

/// What the routers of a model add to its loss; none for a dense model.
fn routers(plan: &ModelPlan, model: &impl Layered) -> Option<RouterLosses> {
    let kind = if let Some(experts) = &plan.experts {
        experts.router.kind()
    } else {
        let layers = model.stack().layers.iter();
        let mut experts = layers.filter_map(|layer| layer.feed_forward.experts());
        experts.next()?.router.kind()
    };
    let weights = &plan.routers;
    let losses = kind.losses.iter();
    Some(losses.fold(RouterLosses::default(), |losses, loss| {
        let name = match (weights.padding, loss.with_padding) {
            (Padding::Include, Some(with_padding)) => with_padding,
            _ => loss.name,
        };
        losses.with(name, loss.title, weights.of(loss.name))
    }))
}
