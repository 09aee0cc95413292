//! TensorBoard event files: scalars, texts and histograms by step, for TensorBoard's `EventAccumulator`.
//!
//! A file is a sequence of records ([`record()`]): length, its checksum, an `Event` message, its checksum. The first event
//! names the format; a resumed training starts a new file, whose second event makes the reader drop what older files
//! say about the repeated steps.

mod crc;
mod event;
mod event_file;
mod histogram;
mod origin;
mod record;
#[cfg(test)]
mod testing;
mod wire;

pub use crc::{crc32c, masked};
pub use event::{Event, Moment, Payload, Value};
pub use event_file::{EventFile, EventFileError, file_name, is_event_file};
pub use histogram::{Bucket, Histogram};
pub use origin::Origin;
pub use record::record;
