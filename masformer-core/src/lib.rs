//! Mixers with spans, stacks of layers and what a forward pass may keep on its way.
//!
//! Shapes use one legend throughout Kiln: `B` batch, `T` tokens, `D` hidden, `H` heads, `E` experts,
//! `F` feed-forward width, `L` layers, `V` vocabulary, `C` classes. Boolean masks follow Burn:
//! `true` is masked out.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests compare numbers")
)]

pub mod activation;
pub mod cache;
pub mod decoder;
pub mod dropout;
pub mod feed_forward;
pub mod file;
pub mod finite;
pub mod flow;
pub mod generate;
pub mod layer;
pub mod linear;
pub mod mixer;
pub mod module_path;
pub mod nearest;
pub mod norm;
pub mod ops;
pub mod position;
pub mod pretrained;
pub mod relative;
pub mod schedule;
pub mod seed;
pub mod span;
pub mod stack;
pub mod tensor_file;
pub mod text_form;
pub mod token_dropping;
pub mod trace;

pub use activation::Activation;
pub use cache::{Eviction, EvictionError, EvictionSpec, LayerCache};
pub use decoder::{Decoder, DecoderCache, DecoderConfig, DecoderInput, DecoderOutput};
pub use feed_forward::{FeedForward, FeedForwardCost, Mlp, MlpConfig};
pub use flow::{Flow, Tokens};
pub use generate::{
    BeamConfig, GenerateConfig, GenerateError, Generated, Generator, Limits, NewToken, PromptError,
    SampleConfig, Stopped, Strategy,
};
pub use layer::{Layer, LayerConfig};
pub use mixer::{
    AttentionSpec, Mix, MixCache, MixSpec, Mixer, MixerCache, MixerError, MixerSpec, Mixing, Reach,
    SpanAttention, SpanAttentionConfig,
};
pub use norm::{Norm, NormConfig, NormKind, NormPlacement};
pub use position::{PositionEncoding, PositionError, PositionExtension, UnknownExtension};
pub use schedule::{MixerSchedule, Placement, ScheduleError, SpanSchedule};
pub use span::{Direction, KeyValueSize, Span, SpanCost, SpanError};
pub use stack::Stack;
pub use token_dropping::{TokenDropping, TokenDroppingError};
pub use trace::{HeadTrace, Keep, Layers, NeuronProbe, RouteTrace, Trace};
