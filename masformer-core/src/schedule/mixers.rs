//! What the layers of a model mix tokens with.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Placement, ScheduleError};
use crate::mixer::{MixerError, MixerSpec};

/// One mixer for each layer of a model; layer 0 is the one at the bottom, next to the embeddings.
///
/// The text form is `PLACEMENT MIXER`, or several of these separated by `;`. [`Placement`] lists the first, and
/// [`MixerSpec`] describes the second. A mixer without a placement is that of every layer. Layers that no part
/// names are attention.
///
/// ```
/// use masformer_core::{MixerSchedule, MixerSpec};
///
/// let schedule: MixerSchedule = "bottom:1 s4d:states=16".parse()?;
/// assert_eq!(schedule.mixers(2)?, ["s4d:states=16".parse()?, MixerSpec::default()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MixerSchedule(Vec<Part>);

/// Some layers and their mixer.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    /// `None` for every layer.
    placement: Option<Placement>,
    mixer: MixerSpec,
}

impl MixerSchedule {
    /// The mixers of a model's layers, from the bottom.
    ///
    /// # Errors
    ///
    /// If the model does not have the layers that are named, or two parts name one layer.
    pub fn mixers(&self, layers: usize) -> Result<Vec<MixerSpec>, ScheduleError> {
        let mut mixers: Vec<Option<&MixerSpec>> = vec![None; layers];
        for Part { placement, mixer } in &self.0 {
            let placed = match placement {
                Some(placement) => placement.layers(layers)?,
                None => vec![true; layers],
            };
            for layer in (0..layers).filter(|&layer| placed[layer]) {
                if let Some(first) = mixers[layer].replace(mixer) {
                    return Err(ScheduleError::TwoMixers {
                        layer,
                        first: first.to_string(),
                        second: mixer.to_string(),
                    });
                }
            }
        }
        let mixers = mixers.into_iter();
        Ok(mixers
            .map(|mixer| mixer.cloned().unwrap_or_default())
            .collect())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.placement {
            Some(placement) => write!(f, "{placement} {}", self.mixer),
            None => self.mixer.fmt(f),
        }
    }
}

impl FromStr for Part {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = || ScheduleError::MixerPart(words.join(" "));
        let (mut placement, mut mixer) = (None, None);
        for word in &words {
            let is_second = match Placement::read(word)? {
                Some(found) => placement.replace(found.checked()?).is_some(),
                None => mixer
                    .replace(word.parse().map_err(MixerError::from)?)
                    .is_some(),
            };
            if is_second {
                return Err(wrong());
            }
        }
        let mixer = mixer.ok_or_else(wrong)?;
        Ok(Self { placement, mixer })
    }
}

impl fmt::Display for MixerSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{part}")?;
        }
        Ok(())
    }
}

impl FromStr for MixerSchedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let parts = text.split(';').map(str::parse);
        parts.collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for MixerSchedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        text.parse()
    }
}

impl From<MixerSchedule> for String {
    fn from(schedule: MixerSchedule) -> Self {
        schedule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> MixerSchedule {
        text.parse().unwrap()
    }

    #[test]
    fn text_is_read_in_any_order_and_written_in_one() {
        for (text, canonical) in [
            (" attention ", "attention"),
            ("attention  bottom:1", "bottom:1 attention"),
            (
                "layers:2,1 attention;top:1 attention",
                "layers:1,2 attention; top:1 attention",
            ),
        ] {
            assert_eq!(schedule(text).to_string(), canonical);
            assert_eq!(schedule(canonical), schedule(text));
        }
    }

    #[test]
    fn layers_that_no_part_names_are_attention() {
        for text in [
            "attention",
            "even:1 attention",
            "bottom:1 attention; top:1 attention",
        ] {
            assert_eq!(
                schedule(text).mixers(2).unwrap(),
                vec![MixerSpec::default(); 2]
            );
        }
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        for (text, problem) in [
            (
                "",
                "`` in a schedule of mixers: expected a mixer, or a placement and",
            ),
            (
                "bottom:1",
                "`bottom:1` in a schedule of mixers: expected a mixer",
            ),
            ("attention;", "`` in a schedule of mixers"),
            (
                "attention attention",
                "`attention attention` in a schedule of mixers",
            ),
            (
                "bottom:1 top:1 attention",
                "`bottom:1 top:1 attention` in a schedule of mixers",
            ),
            ("every:0 attention", "`every:0` in a schedule: expected"),
            ("bottom:1 atention", "unknown mixer `atention`"),
        ] {
            let error = text.parse::<MixerSchedule>().unwrap_err().to_string();
            assert!(error.starts_with(problem), "{text}: {error}");
        }
    }

    #[test]
    fn a_layer_has_one_mixer_and_must_be_there() {
        for (text, problem) in [
            (
                "bottom:2 attention; layers:1 attention",
                "both `attention` and `attention` are the mixer of layer 1",
            ),
            (
                "attention; top:1 attention",
                "both `attention` and `attention` are the mixer of layer 2",
            ),
            (
                "bottom:4 attention",
                "`bottom:4` asks for more layers than the model has",
            ),
            (
                "layers:3 attention",
                "`layers:3` names layer 3 of a model with 3 layers",
            ),
        ] {
            let error = schedule(text).mixers(3).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{text}: {error}");
        }
    }
}
