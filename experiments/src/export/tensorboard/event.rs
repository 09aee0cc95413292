//! The messages of event files: `Event`, `Summary` and what it holds.

use super::{histogram::Histogram, wire::Message};

/// When something was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The training step.
    pub step: i64,
    /// Seconds since 1970.
    pub seconds: f64,
}

/// What a tag shows at a moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, which is rounded to float32.
    Scalar(f64),
    /// A text, which TensorBoard shows as Markdown.
    Text(String),
    /// A distribution.
    Histogram(Histogram),
}

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// The version of the format; first in each file.
    FileVersion,
    /// A training resumes at the event's step: readers drop older values of this step and later ones.
    SessionStart,
    /// Values by tag.
    Summary(Vec<(String, Value)>),
}

/// A message of an event file.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its step and time.
    pub at: Moment,
    /// What it says.
    pub payload: Payload,
}

/// The format of the files.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.SessionStatus.START`
const START: i64 = 1;
/// `DataType.DT_STRING`
const STRING: i64 = 7;

impl Event {
    /// The encoded message `Event`, without the frame of a record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let event = Message::new()
            .double(1, self.at.seconds)
            .int(2, self.at.step);
        let event = match &self.payload {
            Payload::FileVersion => event.bytes(3, VERSION.as_bytes()),
            Payload::SessionStart => event.message(7, &Message::new().int(1, START)),
            Payload::Summary(values) => {
                let values = values.iter();
                let summary = values.fold(Message::new(), |summary, (tag, value)| {
                    summary.message(1, &summary_value(tag, value))
                });
                event.message(5, &summary)
            }
        };
        event.into_bytes()
    }
}

/// The message `Summary.Value`.
fn summary_value(tag: &str, value: &Value) -> Message {
    let message = Message::new().bytes(1, tag.as_bytes());
    match value {
        Value::Scalar(value) => message.one_float(2, *value as f32),
        Value::Histogram(histogram) => message.message(5, &histogram.message()),
        Value::Text(text) => message
            .message(8, &tensor(text))
            .message(9, &text_metadata()),
    }
}

/// The message `SummaryMetadata` of texts.
fn text_metadata() -> Message {
    Message::new().message(1, &Message::new().bytes(1, b"text"))
}

/// The message `TensorProto` of one string, with the shape `[1]`.
fn tensor(text: &str) -> Message {
    let dimension = Message::new().int(1, 1);
    let shape = Message::new().message(2, &dimension);
    Message::new()
        .int(1, STRING)
        .message(2, &shape)
        .bytes(8, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::export::tensorboard::{
        Bucket, record,
        testing::{Field, field, fields, fixture, fixture_file},
    };

    fn summary(step: i64, seconds: f64, tag: &str, value: Value) -> Event {
        Event {
            at: Moment { step, seconds },
            payload: Payload::Summary(vec![(tag.to_owned(), value)]),
        }
    }

    fn fixture_events() -> Vec<Event> {
        let histogram = Histogram {
            min: -1.0,
            max: 2.0,
            num: 4.0,
            sum: 2.5,
            sum_squares: 6.25,
            buckets: [(0.0, 1.0), (1.0, 2.0), (2.0, 1.0)]
                .map(|(limit, count)| Bucket { limit, count })
                .to_vec(),
        };
        let version = Event {
            at: Moment {
                step: 0,
                seconds: 1.5,
            },
            payload: Payload::FileVersion,
        };
        let text = Value::Text("train.epochs = 3".to_owned());
        vec![
            version,
            summary(7, 2.5, "train/loss", Value::Scalar(0.25)),
            summary(300, 3.5, "valid/accuracy", Value::Scalar(0.875)),
            summary(300, 3.5, "recipe/text_summary", text),
            summary(300, 3.5, "experts/load", Value::Histogram(histogram)),
        ]
    }

    #[test]
    fn equals_the_fixture_byte_for_byte() {
        let records: Vec<_> = fixture_events()
            .iter()
            .map(|event| record(&event.to_bytes()))
            .collect();
        let hex = |bytes: &Vec<u8>| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            })
        };
        let expected = fixture();
        let expected = expected["records_hex"].as_array().unwrap();
        assert_eq!(records.len(), expected.len());
        for (written, expected) in records.iter().zip(expected) {
            assert_eq!(&hex(written), expected.as_str().unwrap());
        }
        assert_eq!(records.concat(), fixture_file());
    }

    #[test]
    fn a_session_start_has_its_step() {
        let event = Event {
            at: Moment {
                step: 40,
                seconds: 2.0,
            },
            payload: Payload::SessionStart,
        };
        let bytes = event.to_bytes();
        assert_eq!(field(&bytes, 2), Some(Field::Varint(40)));
        assert_eq!(field(&bytes, 7), Some(Field::Bytes(vec![0x08, 1])));
    }

    proptest! {
        #[test]
        fn scalars_come_back(
            step in 1..i64::MAX, seconds in 1.0..1e10_f64,
            scalars in prop::collection::vec(("[a-z/]{1,12}", any::<f32>()), 0..6),
        ) {
            let values = scalars.iter().map(|(tag, value)| (tag.clone(), Value::Scalar(f64::from(*value))));
            let event = Event { at: Moment { step, seconds }, payload: Payload::Summary(values.collect()) };
            let bytes = event.to_bytes();
            prop_assert_eq!(field(&bytes, 1), Some(Field::Fixed64(seconds.to_bits())));
            prop_assert_eq!(field(&bytes, 2), Some(Field::Varint(step as u64)));
            let summary = field(&bytes, 5).unwrap();
            let values = fields(summary.bytes());
            prop_assert_eq!(values.len(), scalars.len());
            for ((number, value), (tag, scalar)) in values.iter().zip(&scalars) {
                prop_assert_eq!(*number, 1);
                prop_assert_eq!(field(value.bytes(), 1), Some(Field::Bytes(tag.clone().into_bytes())));
                prop_assert_eq!(field(value.bytes(), 2), Some(Field::Fixed32(scalar.to_bits())));
            }
        }
    }
}
