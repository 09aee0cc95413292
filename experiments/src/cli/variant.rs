//! How a model is to differ from what its folder says, as several commands take it.

use std::path::Path;

use clap::Args;
use masformer_core::{MixerSchedule, PositionExtension, SpanSchedule};
use moebert_core::pretrained::{Pretrained, PretrainedDecoder};

use crate::error::Error;

/// The same weights under other spans or mixers, or for longer inputs.
#[derive(Debug, Args)]
pub(super) struct VariantArgs {
    /// What the layers attend to, such as `"bottom:1 window:256"`; `kiln spans --help` lists the words
    /// [default: the model's own]
    #[arg(long, value_name = "SCHEDULE")]
    spans: Option<SpanSchedule>,
    /// What the layers mix tokens with, such as `"bottom:1 s4d"`: other settings of the mixers whose weights
    /// the model has [default: the model's own]
    #[arg(long, value_name = "SCHEDULE")]
    mixers: Option<MixerSchedule>,
    /// How a decoder reads more tokens than it has positions: `tile` or `interpolate` learned ones, or
    /// `scale-base` rotary ones
    #[arg(long, value_name = "HOW")]
    pub extend: Option<PositionExtension>,
}

impl VariantArgs {
    /// The folder of a BERT, under the schedules that are given.
    pub fn encoder(&self, dir: &Path) -> Result<Pretrained, Error> {
        if self.extend.is_some() {
            let problem = format!(
                "`--extend` is for decoders, and {} is a BERT",
                dir.display()
            );
            return Err(Error::Usage(problem));
        }
        let mut pretrained = Pretrained::open(dir)?;
        let layers = pretrained.config().bert.num_hidden_layers;
        if let Some(schedule) = &self.spans {
            pretrained = pretrained.with_spans(schedule.spans(layers)?)?;
        }
        if let Some(schedule) = &self.mixers {
            pretrained = pretrained.with_mixers(schedule.mixers(layers)?)?;
        }
        Ok(pretrained)
    }

    /// The folder of a decoder, under the schedules that are given.
    pub fn decoder(&self, dir: &Path) -> Result<PretrainedDecoder, Error> {
        let mut folder = PretrainedDecoder::open(dir)?;
        let layers = folder.config().decoder.spans.len();
        if let Some(schedule) = &self.spans {
            let spans = schedule.spans(layers)?;
            folder = folder.map(|folder| folder.with_spans(spans))?;
        }
        if let Some(schedule) = &self.mixers {
            let mixers = schedule.mixers(layers)?;
            folder = folder.map(|folder| folder.with_mixers(mixers, false))?;
        }
        Ok(folder)
    }

    /// The folder for inputs of `length` tokens. More than it has positions need the extension.
    pub fn lengthen(
        &self,
        folder: PretrainedDecoder,
        length: usize,
    ) -> Result<PretrainedDecoder, Error> {
        Ok(folder.map(|folder| folder.with_length(length, self.extend))?)
    }
}
