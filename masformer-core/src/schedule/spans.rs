//! Which layers attend to everything, and what the others attend to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Placement, ScheduleError};
use crate::span::Span;

/// One span for each layer of a model; layer 0 is the one at the bottom, next to the embeddings.
///
/// The text form is `PLACEMENT LOCAL`: which layers have full attention, and the local span of the
/// others. The words are read in any order and written in this one. [`Placement`] lists the first, and
/// LOCAL is any other [`Span`] than `full`. A LOCAL is needed only if it is the span of some layer. A
/// span alone, `full` included, is the span of every layer.
///
/// | model | schedule |
/// |---|---|
/// | GPT-2, BERT | `full` |
/// | Mistral 7B v0.1 (arXiv 2310.06825) | `window:4096` |
/// | GPT-Neo, whose layers take turns | `every:2 window:256` |
/// | Gemma 3 (arXiv 2503.19786), five local layers before a full one | `every:6+5 window:1024` |
/// | `ModernBERT` (arXiv 2412.13663), an encoder | `every:3 window:128` |
///
/// ```
/// use masformer_core::{Span, SpanSchedule};
///
/// let schedule: SpanSchedule = "every:2 window:256".parse()?;
/// let local = "window:256".parse()?;
/// assert_eq!(schedule.spans(3)?, [Span::Full, local, Span::Full]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpanSchedule(Pattern);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pattern {
    Uniform(Span),
    /// The local span is none of [`Span::Full`].
    Mixed {
        full: Placement,
        local: Option<Span>,
    },
}

impl SpanSchedule {
    /// Full attention where `full` says, and the span `local` in the other layers, if there are any.
    ///
    /// # Errors
    ///
    /// If the placement makes no sense for any model, or `local` is full attention.
    pub fn new(full: Placement, local: Option<Span>) -> Result<Self, ScheduleError> {
        let full = full.checked()?;
        if local == Some(Span::Full) {
            return Err(ScheduleError::NotLocal(full));
        }
        Ok(Self(Pattern::Mixed { full, local }))
    }

    /// The spans of a model's layers, from the bottom.
    ///
    /// # Errors
    ///
    /// If the model does not have the layers that are to be full, or a layer has no span.
    pub fn spans(&self, layers: usize) -> Result<Vec<Span>, ScheduleError> {
        let (full, local) = match &self.0 {
            Pattern::Uniform(span) => return Ok(vec![*span; layers]),
            Pattern::Mixed { full, local } => (full, *local),
        };
        let is_full = full.layers(layers)?;
        let rest = is_full.iter().filter(|&&full| !full).count();
        let local = match local {
            Some(local) => local,
            None if rest == 0 => Span::Full,
            None => {
                return Err(ScheduleError::NoLocal {
                    placement: full.clone(),
                    local: rest,
                    layers,
                });
            }
        };
        let span = |full| if full { Span::Full } else { local };
        Ok(is_full.into_iter().map(span).collect())
    }
}

impl Default for Pattern {
    fn default() -> Self {
        Self::Uniform(Span::Full)
    }
}

/// The same span everywhere.
impl From<Span> for SpanSchedule {
    fn from(span: Span) -> Self {
        Self(Pattern::Uniform(span))
    }
}

impl fmt::Display for SpanSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Uniform(span) => span.fmt(f),
            Pattern::Mixed { full, local: None } => full.fmt(f),
            Pattern::Mixed {
                full,
                local: Some(local),
            } => write!(f, "{full} {local}"),
        }
    }
}

impl FromStr for SpanSchedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut placement, mut span) = (None, None);
        for word in text.split_whitespace() {
            if let Some(second) = Placement::read(word)? {
                if let Some(first) = placement.replace(second.clone()) {
                    return Err(ScheduleError::TwoPlacements(first, second));
                }
            } else {
                let second = read_span(word)?;
                if let Some(first) = span.replace(second) {
                    return Err(ScheduleError::TwoSpans(first, second));
                }
            }
        }
        match (placement, span) {
            (None, None) => Err(ScheduleError::Empty),
            (None, Some(span)) => Ok(span.into()),
            (Some(placement), local) => Self::new(placement, local),
        }
    }
}

/// A span; a word that does not even start like one may be meant for something else.
fn read_span(word: &str) -> Result<Span, ScheduleError> {
    let name = word.split(':').next();
    if name.is_some_and(|name| ["full", "window", "block"].contains(&name)) {
        Ok(word.parse()?)
    } else {
        Err(ScheduleError::Unknown(word.to_owned()))
    }
}

impl TryFrom<String> for SpanSchedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SpanSchedule> for String {
    fn from(schedule: SpanSchedule) -> Self {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use burn::config::Config;
    use proptest::prelude::*;

    use super::*;
    use crate::span::tests::spans;

    fn schedule(text: &str) -> SpanSchedule {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<SpanSchedule>().unwrap_err().to_string()
    }

    /// The layers of 24 that are full.
    fn full_of_24(text: &str) -> Vec<usize> {
        let spans = schedule(text).spans(24).unwrap();
        (0..24)
            .filter(|&layer| spans[layer] == Span::Full)
            .collect()
    }

    #[test]
    fn published_models_have_the_layers_of_their_configurations() {
        let evens: Vec<usize> = (0..24).step_by(2).collect();
        assert_eq!(full_of_24("every:2 window:256"), evens);
        assert_eq!(full_of_24("every:6+5 window:1024"), [5, 11, 17, 23]);
        assert!(full_of_24("window:4096").is_empty());
        assert_eq!(full_of_24("full").len(), 24);
    }

    #[test]
    fn the_other_layers_have_the_local_span() {
        let spans = schedule("top:1 window:3+2").spans(3).unwrap();
        let local = "window:3+2".parse().unwrap();
        assert_eq!(spans, [local, local, Span::Full]);
        assert_eq!(schedule("window:3+2").spans(2).unwrap(), [local, local]);
        assert_eq!(SpanSchedule::default().spans(1).unwrap(), [Span::Full]);
    }

    #[test]
    fn no_local_span_is_needed_where_every_layer_is_full() {
        for text in ["bottom:3", "layers:0,1,2", "every:1", "even:3"] {
            assert_eq!(schedule(text).spans(3).unwrap(), [Span::Full; 3], "{text}");
        }
        let error = schedule("bottom:3").spans(24).unwrap_err().to_string();
        assert_eq!(
            error,
            "`bottom:3` leaves 21 of 24 layers without a span: \
             expected a local one too, such as `bottom:3 window:256`"
        );
    }

    #[test]
    fn text_is_read_in_any_order_and_written_in_one() {
        for (text, canonical) in [
            (" block:8   bottom:4 ", "bottom:4 block:8"),
            ("window:256+0 every:2+0", "every:2 window:256"),
            ("layers:11,0,5 window:3+1", "layers:0,5,11 window:3+1"),
        ] {
            assert_eq!(schedule(text).to_string(), canonical);
        }
    }

    #[test]
    fn a_configuration_holds_the_text() {
        #[derive(Config, Debug)]
        struct Layers {
            spans: SpanSchedule,
        }

        let config = Layers::new(schedule("middle:2 window:8"));
        let json = config.to_string();
        assert!(json.contains("\"middle:2 window:8\""), "{json}");
        let read = Layers::load_binary(json.as_bytes()).unwrap();
        assert_eq!(read.spans, config.spans);
        let wrong = json.replace("window:8", "windw:8");
        let error = Layers::load_binary(wrong.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains("unknown word `windw:8`"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        for (text, problem) in [
            ("", "an empty span schedule: expected a span such as"),
            ("botom:4 window:8", "unknown word `botom:4`"),
            ("bottom:4 window:0", "unknown span `window:0`: expected"),
            ("full:2", "unknown span `full:2`: expected"),
            (
                "bottom:4 top:2",
                "both `bottom:4` and `top:2` say which layers have full attention",
            ),
            (
                "window:8 block:8",
                "both `window:8` and `block:8` are spans",
            ),
            ("full full", "both `full` and `full` are spans"),
            ("full even:2", "`even:2 full` has no local span: expected"),
        ] {
            let error = refusal(text);
            assert!(error.starts_with(problem), "{text}: {error}");
        }
    }

    fn local() -> impl Strategy<Value = Span> {
        spans().prop_filter("local spans", |&span| span != Span::Full)
    }

    fn placement() -> impl Strategy<Value = Placement> {
        prop_oneof![
            (0..99_usize).prop_map(Placement::Bottom),
            (0..99_usize).prop_map(Placement::Top),
            (0..99_usize).prop_map(Placement::Middle),
            (0..99_usize).prop_map(Placement::Even),
            (1..99_usize, 0..99_usize).prop_map(|(period, start)| Placement::Every {
                period,
                start: start % period,
            }),
            prop::collection::btree_set(0..99_usize, 1..9)
                .prop_map(|layers| Placement::Layers(layers.into_iter().collect())),
        ]
    }

    fn schedules() -> impl Strategy<Value = SpanSchedule> {
        prop_oneof![
            spans().prop_map(SpanSchedule::from),
            (placement(), prop::option::of(local()))
                .prop_map(|(full, local)| SpanSchedule::new(full, local).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn text_round_trips(written in schedules()) {
            let text = written.to_string();
            prop_assert_eq!(&schedule(&text), &written);
            let swapped: Vec<&str> = text.split(' ').rev().collect();
            prop_assert_eq!(schedule(&swapped.join("\t")), written);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z]{0,6}(:[0-9+,]{0,5})?( (window|block):[0-9+]{0,4})?") {
            if let Ok(read) = text.parse::<SpanSchedule>() {
                prop_assert_eq!(schedule(&read.to_string()), read);
            }
        }
    }
}
