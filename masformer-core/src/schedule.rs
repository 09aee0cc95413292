//! What each layer of a model attends to and mixes tokens with, from a text.
//!
//! There are two schedules and not one: a mixer may take in its layer's span, as SPADE does, and one can be
//! changed without the other. A layer that no schedule of mixers names is attention under its span.

mod error;
mod mixers;
mod placement;
mod spans;

pub use error::ScheduleError;
pub use mixers::MixerSchedule;
pub use placement::Placement;
pub use spans::SpanSchedule;
