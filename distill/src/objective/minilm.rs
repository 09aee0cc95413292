//! Relations of tokens within one layer, after `MiniLM` and `MiniLMv2`.

use burn::{nn::Linear, prelude::*};
use masformer_core::{HeadTrace, Keep, Layers, Trace};
use serde::{Deserialize, Serialize};

use super::{Given, Objective, Terms, check_weight, followed};
use crate::{
    MethodError, Shape, Signals,
    loss::{pairs::Pairs, relation::relation},
};

/// The largest number of relation heads that is chosen without being asked for.
const MOST_HEADS: usize = 64;

/// The weighted relation loss on the dashboard.
const RELATION: &str = "Relation";

/// The student's last layer learns the relations of the teacher's: which tokens go together by queries, keys and values
/// (`MiniLMv2`, arXiv 2012.15828; `MiniLM`, arXiv 2002.10957, with the pairs `qk` and `vv` and as many relation heads as
/// attention heads). Depths and widths may differ, and nothing is projected.
///
/// A relation has the pairs of tokens that the student's layer sees, on both sides. Of a layer with rotary positions,
/// vectors are taken before they are rotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MiniLm {
    /// The factor of the sum.
    pub weight: f64,
    /// The weight of each relation.
    pub pairs: RelationWeights,
    /// Relation heads `A`, which divide the widths of both models. Absent: the largest common divisor up to 64.
    pub heads: Option<usize>,
    /// The teacher's layer, from 0. Absent: the last.
    pub teacher_layer: Option<usize>,
}

/// The weights of the relations between queries, keys and values; 0 leaves one out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelationWeights {
    /// Queries with queries.
    pub qq: f64,
    /// Queries with keys: attention.
    pub qk: f64,
    /// Keys with keys.
    pub kk: f64,
    /// Values with values.
    pub vv: f64,
}

impl Default for MiniLm {
    fn default() -> Self {
        Self {
            weight: 1.0,
            pairs: RelationWeights {
                qq: 1.0,
                kk: 1.0,
                vv: 1.0,
                qk: 0.0,
            },
            heads: None,
            teacher_layer: None,
        }
    }
}

/// Takes the two sides of a relation from a layer.
type Vectors = fn(&HeadTrace) -> [Tensor<3>; 2];

impl RelationWeights {
    /// The relations that count, each with its weight and what it takes of a layer.
    fn chosen(self) -> impl Iterator<Item = (f64, Vectors)> {
        let all: [(f64, Vectors); 4] = [
            (self.qq, |layer| [layer.query.clone(), layer.query.clone()]),
            (self.qk, |layer| [layer.query.clone(), layer.key.clone()]),
            (self.kk, |layer| [layer.key.clone(), layer.key.clone()]),
            (self.vv, |layer| [layer.value.clone(), layer.value.clone()]),
        ];
        all.into_iter().filter(|(weight, _)| *weight != 0.0)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

impl MiniLm {
    /// The relation heads for models of these widths: queries and keys of the student, then of the teacher.
    fn heads(&self, widths: [usize; 4]) -> Result<usize, MethodError> {
        let common = widths.into_iter().fold(0, greatest_common_divisor);
        let fit = |heads: &usize| common.is_multiple_of(*heads);
        match self.heads {
            None => Ok((1..=common.min(MOST_HEADS)).rev().find(fit).unwrap_or(1)),
            Some(heads) if heads > 0 && fit(&heads) => Ok(heads),
            Some(heads) => {
                let fitting = (1..=common).filter(fit).map(|heads| heads.to_string());
                let fitting: Vec<String> = fitting.collect();
                Err(format!(
                    "{heads} relation heads do not divide the widths {widths:?} of queries and keys of student and \
                     teacher; {} do",
                    fitting.join(", ")
                )
                .into())
            }
        }
    }

    /// The relation loss `[1]` of two layers; `None` where no relation counts.
    pub fn of_layers(
        &self,
        student: &HeadTrace,
        teacher: &HeadTrace,
        heads: usize,
        padding: Option<&Tensor<2, Bool>>,
    ) -> Option<Tensor<1>> {
        let [batch, length, _] = student.query.dims();
        let seen = (student.span, student.direction);
        let pairs = Pairs::new(seen, [batch, length], padding, &student.query.device());
        let terms = self.pairs.chosen().map(|(weight, vectors)| {
            relation(vectors(student), vectors(teacher), heads, &pairs).mul_scalar(weight)
        });
        terms.reduce(|sum, term| sum + term)
    }
}

/// The attention of a layer that a forward pass was asked to keep.
fn attention<'a>(
    model: &str,
    trace: &'a Trace,
    layer: usize,
) -> Result<&'a HeadTrace, MethodError> {
    let heads = trace.heads.get(&layer);
    heads.ok_or_else(|| {
        format!("layer {layer} of the {model} has no attention to take relations of").into()
    })
}

impl Objective for MiniLm {
    fn name(&self) -> &'static str {
        "minilm"
    }

    fn keep(&self) -> Keep {
        Keep {
            heads: Layers::Last,
            ..Keep::default()
        }
    }

    fn keep_of_teacher(&self) -> Option<Keep> {
        Some(Keep {
            heads: match self.teacher_layer {
                Some(layer) => Layers::Only([layer].into()),
                None => Layers::Last,
            },
            ..Keep::default()
        })
    }

    fn shows(&self) -> Vec<&'static str> {
        vec![RELATION]
    }

    fn check(&self) -> Result<(), MethodError> {
        check_weight("weight", self.weight)?;
        let RelationWeights { qq, qk, kk, vv } = self.pairs;
        for (key, weight) in [
            ("pairs.qq", qq),
            ("pairs.qk", qk),
            ("pairs.kk", kk),
            ("pairs.vv", vv),
        ] {
            check_weight(key, weight)?;
        }
        if self.pairs.chosen().next().is_none() {
            return Err(
                "all of `pairs` are 0; give one of `qq`, `qk`, `kk` and `vv` a weight".into(),
            );
        }
        match self.heads {
            Some(0) => Err("`heads` must be at least 1, not 0".into()),
            _ => Ok(()),
        }
    }

    fn parts(
        &self,
        Given {
            student, teacher, ..
        }: Given<'_>,
    ) -> Result<Vec<Linear>, MethodError> {
        if let Some(teacher) = teacher {
            self.heads([
                student.hidden,
                student.key_value,
                teacher.hidden,
                teacher.key_value,
            ])?;
            if let Some(layer) = self.teacher_layer
                && layer >= teacher.layers
            {
                return Err(format!(
                    "the teacher has no layer {layer}: its layers are 0 to {}",
                    teacher.layers - 1
                )
                .into());
            }
        }
        let shared = |shape: &Shape| self.pairs.qk != 0.0 && shape.key_value != shape.hidden;
        if let Some(shape) = [Some(student), teacher]
            .into_iter()
            .flatten()
            .find(|shape| shared(shape))
        {
            return Err(format!(
                "the relation `qk` needs queries and keys of one width, and heads share keys here: {} and {}; set \
                 `pairs.qk` to 0",
                shape.hidden, shape.key_value
            )
            .into());
        }
        Ok(vec![])
    }

    fn terms(
        &self,
        _: &[Linear],
        student: &Signals,
        teacher: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let teacher = followed(teacher)?;
        let (own, other) = (&student.trace, &teacher.trace);
        let layer = attention("student", own, own.layers().saturating_sub(1))?;
        let last = other.layers().saturating_sub(1);
        let target = attention("teacher", other, self.teacher_layer.unwrap_or(last))?;
        let widths = [&layer.query, &layer.key, &target.query, &target.key];
        let heads = self.heads(widths.map(|vectors| vectors.dims()[2]))?;
        let loss = self.of_layers(layer, target, heads, student.padding.as_ref());
        let mut terms = Terms::default();
        terms.add(RELATION, loss, self.weight);
        Ok(terms)
    }
}
