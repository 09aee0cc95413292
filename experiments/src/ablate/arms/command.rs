//! Arguments of the command line: overrides for all arms, and axes.

use toml::Value;

use super::{
    argument::{assignment, key, value},
    block::ArmAxis,
    error::{AblationError, Place, Refusal},
    margin::Margin,
    reference::Reference,
    settings::check_keys,
    split::split,
};

/// What the command line says of an ablation. Its options win over the table `[ablate]`; its axes are one more block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Overrides of the recipe, `key=value`, for all arms.
    pub overrides: Vec<String>,
    /// The axes, each combined with all others.
    pub axes: Vec<ArmAxis>,
    /// `--seeds`, by [`parse_seeds`](super::parse_seeds).
    pub seeds: Option<Vec<u64>>,
    /// `--reference`, by [`Reference::parse`].
    pub reference: Option<Reference>,
    /// `--metric`.
    pub metric: Option<String>,
    /// `--margin`, by [`Margin::parse`].
    pub margin: Option<Margin>,
    /// `--alpha`, by [`parse_alpha`](super::parse_alpha).
    pub alpha: Option<f64>,
}

impl Command {
    /// Reads the arguments after the recipe, without options: `key=v` is an override, `key=a,b,c` an axis, and
    /// `k1+k2=a1+a2,b1+b2` an axis of keys that change together. Commas and `+` inside brackets, braces and quotes do not
    /// split. An argument with one value, `key=` included, is passed on as it is.
    ///
    /// # Errors
    ///
    /// If an argument has no key, a list has an open bracket or an empty value, an element of a zip has not one value per
    /// key, or an axis names a key that has another axis or override, or that no arm may change.
    pub fn parse(arguments: &[String]) -> Result<Self, AblationError> {
        let mut command = Self::default();
        for argument in arguments {
            let place = Place::Argument(argument.clone());
            let (keys, value) = assignment(argument, &place)?;
            let not_closed = || Refusal::NotClosed(argument.clone()).at(&place);
            let names = split(keys, '+').ok_or_else(not_closed)?;
            let elements = split(value, ',').ok_or_else(not_closed)?;
            if let ([_], [_]) = (names.as_slice(), elements.as_slice()) {
                command.overrides.push(argument.clone());
                continue;
            }
            let mut rows = vec![];
            for element in &elements {
                rows.push(parts(element, &names, keys, &place)?);
            }
            if let [row] = rows.as_slice() {
                let overrides = names
                    .iter()
                    .zip(row)
                    .map(|(key, value)| format!("{key}={value}"));
                command.overrides.extend(overrides);
                continue;
            }
            let keys: Result<Vec<_>, _> = names.iter().map(|name| key(name, &place)).collect();
            let axis = ArmAxis {
                points: rows
                    .iter()
                    .map(|row| values(&names, row, &place))
                    .collect::<Result<_, _>>()?,
                keys: keys?,
                place,
            };
            command.axes.push(axis);
            command.check_last_axis()?;
        }
        command.check_overrides()?;
        Ok(command)
    }

    fn check_last_axis(&self) -> Result<(), AblationError> {
        let keys = self
            .axes
            .iter()
            .flat_map(|axis| &axis.keys)
            .map(String::as_str);
        let place = self.axes.last().map(|axis| axis.place.clone());
        check_keys(keys, &place.unwrap_or_default())
    }

    /// Refuses overrides of keys that have an axis: no arm would have them.
    fn check_overrides(&self) -> Result<(), AblationError> {
        for argument in &self.overrides {
            let place = Place::Argument(argument.clone());
            let (name, value) = assignment(argument, &place)?;
            // A key that is none is for the reader of overrides to refuse, in its words.
            let Ok(key) = key(name, &place) else { continue };
            if !value.is_empty() && self.axes.iter().any(|axis| axis.keys.contains(&key)) {
                let by = format!(", by `{argument}` and by an axis");
                return Err(Refusal::SetTwice { key, by }.at(&place));
            }
        }
        Ok(())
    }
}

/// The parts of an element, one per key, none of them empty.
fn parts<'a>(
    element: &'a str,
    names: &[&str],
    keys: &str,
    place: &Place,
) -> Result<Vec<&'a str>, AblationError> {
    let row = if names.len() == 1 {
        Some(vec![element])
    } else {
        split(element, '+')
    };
    let row = row.ok_or_else(|| Refusal::NotClosed(element.to_owned()).at(place))?;
    if row.contains(&"") {
        return Err(Refusal::EmptyValue(keys.to_owned()).at(place));
    }
    if row.len() != names.len() {
        let refusal = Refusal::ZipParts {
            keys: keys.to_owned(),
            element: element.to_owned(),
            given: row.len(),
            expected: names.len(),
        };
        return Err(refusal.at(place));
    }
    Ok(row)
}

fn values(names: &[&str], row: &[&str], place: &Place) -> Result<Vec<Value>, AblationError> {
    names
        .iter()
        .zip(row)
        .map(|(name, text)| value(name, text, place))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ablate::arms::value::shown;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        Command::parse(&arguments).map_err(|error| error.to_string())
    }

    fn axes(arguments: &[&str]) -> Vec<(String, String)> {
        let command = parse(arguments).expect("axes");
        let shown = |row: &Vec<Value>| row.iter().map(shown).collect::<Vec<_>>().join("+");
        let axis = |axis: ArmAxis| {
            (
                axis.keys.join("+"),
                axis.points.iter().map(shown).collect::<Vec<_>>().join(" "),
            )
        };
        command.axes.into_iter().map(axis).collect()
    }

    #[test]
    fn arguments_are_overrides_grids_or_zips() {
        let found = axes(&[
            "data.path=SST-2",
            "experts.order=importance, random",
            "train . learning_rate=1e-3,2e-3",
            "experts.width+experts.shared=384+256,192+128",
            "stages.student.methods=['kd','experts'],{lora={rank=2}},[]",
            r#"model.spans="layers:0,1 full",window:64"#,
        ]);
        let expected = [
            ("experts.order", "importance random"),
            ("train.learning_rate", "0.001 0.002"),
            ("experts.width+experts.shared", "384+256 192+128"),
            (
                "stages.student.methods",
                r#"[kd,experts] {"lora":{"rank":2}} []"#,
            ),
            ("model.spans", r#""layers:0,1 full" window:64"#),
        ];
        assert_eq!(
            found,
            expected.map(|(keys, values)| (keys.to_owned(), values.to_owned()))
        );
    }

    #[test]
    fn one_value_is_an_override() {
        let arguments = [
            "a=[1, 2]",
            "b='x,y'",
            "c=",
            "d=it's",
            "e={x=1,y=2}",
            "f=[open",
            "g=a=b",
        ];
        assert_eq!(parse(&arguments).expect("overrides").overrides, arguments);
        assert_eq!(
            parse(&["a+b=1+[2+3]"]).expect("overrides").overrides,
            ["a=1", "b=[2+3]"]
        );
    }

    #[test]
    fn mistakes_are_refused_with_the_argument() {
        for (arguments, expected) in [
            (
                vec!["quick"],
                "`quick` sets nothing; write key=value, key=a,b,c or k1+k2=a1+a2,b1+b2",
            ),
            (
                vec!["=3"],
                "`=3` sets nothing; write key=value, key=a,b,c or k1+k2=a1+a2,b1+b2",
            ),
            (
                vec!["a=[1,2"],
                "in `a=[1,2`, a bracket, brace or quote is not closed; quote the whole value if it is meant",
            ),
            (
                vec!["a=1,,2"],
                "a value of `a` is empty; write \"\" for the empty text",
            ),
            (
                vec!["a+b=1+2,3+"],
                "a value of `a+b` is empty; write \"\" for the empty text",
            ),
            (
                vec!["a+b=1+2,3"],
                "`3` has 1 value for the 2 keys `a+b`; write one value per key, joined by `+`",
            ),
            (
                vec!["a b=1,2"],
                "`a b` is no key; write words joined by dots, as in train.epochs",
            ),
            (
                vec!["a+=1+2,3+4"],
                "`` is no key; write words joined by dots, as in train.epochs",
            ),
            (vec!["a=1,2", "a=3,4"], "an arm sets `a` twice; set it once"),
            (
                vec!["a.b=1,2", "a+c=3+4,5+6"],
                "an arm sets `a.b` twice, by itself and as a part of `a`; set it once",
            ),
            (
                vec!["a=1,2", "a=3"],
                "an arm sets `a` twice, by `a=3` and by an axis; set it once",
            ),
        ] {
            assert_eq!(parse(&arguments).expect_err(expected), expected);
        }
        let message = parse(&["seeds=1,2"]).expect_err("seeds");
        assert!(
            message.starts_with("an arm cannot change `seeds`: every arm runs every seed"),
            "{message}"
        );
        let message = parse(&["a=1,9223372036854775808"]).expect_err("too large");
        assert!(
            message.starts_with("`a` cannot be `9223372036854775808`; "),
            "{message}"
        );
        let error = Command::parse(&["x=1".to_owned(), "a=1,,2".to_owned()]).expect_err("empty");
        assert_eq!(error.place, Place::Argument("a=1,,2".to_owned()));
    }

    #[test]
    fn a_table_may_be_overridden_below_an_axis() {
        parse(&["experts={width=8}", "experts.shared=0,4"]).expect("the axis is a part");
        parse(&["experts.shared=", "experts.shared=0,4"]).expect("the axis puts it back");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            proptest::collection::vec(inner, 0..3).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn shown_values_of_an_axis_are_read_back(values in proptest::collection::vec(any_value(), 2..5)) {
            // Integral floats are shown as integers, which are equal to them.
            let texts: Vec<String> = values.iter().map(shown).collect();
            let command = Command::parse(&[format!("a.b={}", texts.join(","))]).expect("an axis");
            let again: Vec<String> = command.axes[0].points.iter().map(|row| shown(&row[0])).collect();
            prop_assert_eq!(again, texts);
        }

        #[test]
        fn no_argument_panics(argument in "[ab.+ ]{0,4}=?[\\PC]{0,20}") {
            let _ = Command::parse(&[argument]);
        }
    }
}
