//! Searches: points of a space of keys, each a function of the seed and its number alone.

use toml::Value;

use super::{
    derive::derive,
    error::{AblationError, Place, Refusal},
    fields::Field,
    halving::HalvingPlan,
    settings::{Settings, check_keys},
    sobol::{DIMENSIONS, sobol},
};

/// Points of a search at most.
pub(super) const SAMPLES: usize = 100_000;
/// What a key of a search can be.
const DOMAINS: &str = "write a list, \"int(low, high, step)\", \"uniform(low, high)\" or \"log(low, high)\" with low < high, \
                       and above 0 for log";

/// The values of one key of a search.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// One of these.
    List(Vec<Value>),
    /// `low`, `low + step`, ... up to `high`, which is included if it is hit.
    Int {
        /// The least value.
        low: i64,
        /// The bound.
        high: i64,
        /// The difference of neighbours, at least 1.
        step: u64,
    },
    /// Equally likely from `low` to `high`.
    Uniform {
        /// The least value.
        low: f64,
        /// The greatest value.
        high: f64,
    },
    /// From `low` to `high`, with equally likely logarithms.
    Log {
        /// The least value, above 0.
        low: f64,
        /// The greatest value.
        high: f64,
    },
}

/// How the points of a search are chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Independent points: coordinate u of key K in point j is the top 53 bits of `derive(seed, "search", K, j)`, over
    /// 2^53. A key that is added leaves the values of the others.
    Random,
    /// The Sobol sequence with a digital shift: coordinate d of every point is combined by exclusive or with the top 32
    /// bits of `derive(seed, "sobol", d, "shift")`.
    Sobol,
    /// Points as in [`Method::Random`], of which the worse ones are stopped early.
    Halving(HalvingPlan),
}

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// How its points are chosen.
    pub method: Method,
    /// Its points.
    pub samples: usize,
    /// The seed of its points.
    pub seed: u64,
    /// The keys with their values, in order.
    pub keys: Vec<(String, Domain)>,
    /// Where it stands.
    pub place: Place,
}

impl Search {
    /// Reads `random`, `sobol` or `halving`.
    pub(super) fn read(name: &str, field: &Field<'_, '_>) -> Result<Self, AblationError> {
        let mut known = vec!["samples", "seed", "keys"];
        if name == "halving" {
            known.extend(HalvingPlan::KEYS);
        }
        let fields = field.fields(&known)?;
        let samples = fields.needed("samples", "the number of points")?;
        let count = samples.integer(1)? as usize;
        if count > SAMPLES {
            return Err(samples.refused(&format!("it is at most {SAMPLES}")));
        }
        let written = fields.needed("keys", "the keys of the search with their values")?;
        let mut keys = vec![];
        for (key, field) in written.recipe_keys()? {
            keys.push((key, Domain::read(&field)?));
        }
        if keys.is_empty() {
            return Err(Refusal::NoValues(written.path.clone()).at(&written.place()));
        }
        let method = match name {
            "sobol" if keys.len() > DIMENSIONS => {
                let refusal = Refusal::TooManyKeys {
                    given: keys.len(),
                    limit: DIMENSIONS,
                };
                return Err(refusal.at(&written.place()));
            }
            "sobol" => Method::Sobol,
            "halving" => Method::Halving(HalvingPlan::read(&fields)?),
            _ => Method::Random,
        };
        let over = match &method {
            Method::Halving(plan) => Some(plan.over.as_str()),
            _ => None,
        };
        let names = keys.iter().map(|(key, _)| key.as_str());
        check_keys(names.chain(over), &written.place())?;
        Ok(Self {
            method,
            samples: count,
            seed: fields.needed("seed", "it decides the points")?.integer(0)?,
            keys,
            place: field.place(),
        })
    }

    /// The settings of point `index`, which depend on the keys, the seed and `index` alone.
    pub fn point(&self, index: usize) -> Settings {
        let keys = self.keys.iter().enumerate();
        let setting = |(dimension, (key, domain)): (_, &(String, Domain))| {
            (
                key.clone(),
                domain.at(self.coordinate(dimension, key, index)),
            )
        };
        keys.map(setting).collect()
    }

    /// A number from 0 to below 1.
    fn coordinate(&self, dimension: usize, key: &str, index: usize) -> f64 {
        if self.method == Method::Sobol {
            let point = sobol(dimension, index as u32).unwrap_or_default();
            let shift = (derive(self.seed, "sobol", dimension, "shift") >> 32) as u32;
            return f64::from(point ^ shift) / 2f64.powi(32);
        }
        (derive(self.seed, "search", key, index) >> 11) as f64 / 2f64.powi(53)
    }
}

impl Domain {
    fn read(field: &Field<'_, '_>) -> Result<Self, AblationError> {
        if field.is_list() {
            let values = field.values()?;
            if values.is_empty() {
                return Err(Refusal::NoValues(field.path.clone()).at(&field.place()));
            }
            return Ok(Self::List(values));
        }
        let domain = field.as_text().and_then(Self::parse);
        domain.ok_or_else(|| field.refused(DOMAINS))
    }

    /// The domain of a text such as `int(0, 512, 64)` (without a step, it is 1), `uniform(0, 1)` or `log(1e-5, 1e-3)`;
    /// none if it is of another form, or low is not below high.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.trim().split_once('(')?;
        let numbers: Vec<&str> = rest.strip_suffix(')')?.split(',').map(str::trim).collect();
        let float = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        match (name.trim(), numbers.as_slice()) {
            ("int", [low, high, step @ ..]) if step.len() <= 1 => {
                let (low, high) = (low.parse().ok()?, high.parse().ok()?);
                let step = step.first().map_or(Some(1), |step| step.parse().ok())?;
                (low < high && step > 0).then_some(Self::Int { low, high, step })
            }
            ("uniform", [low, high]) => {
                let (low, high) = (float(low)?, float(high)?);
                (low < high && (high - low).is_finite()).then_some(Self::Uniform { low, high })
            }
            ("log", [low, high]) => {
                let (low, high) = (float(low)?, float(high)?);
                (0.0 < low && low < high).then_some(Self::Log { low, high })
            }
            _ => None,
        }
    }

    /// The value at `u`, from 0 to below 1. Floats are rounded to six significant digits within the domain: logarithms
    /// differ in the last bit between systems, and workers on several must agree on the arms.
    pub fn at(&self, u: f64) -> Value {
        match self {
            Self::List(values) => {
                let index = (u * values.len() as f64) as usize;
                values
                    .get(index)
                    .or(values.last())
                    .cloned()
                    .unwrap_or(Value::Boolean(false))
            }
            Self::Int { low, high, step } => {
                let steps = (i128::from(*high) - i128::from(*low)) / i128::from(*step);
                let taken = ((u * (steps + 1) as f64) as i128).min(steps);
                Value::Integer((i128::from(*low) + taken * i128::from(*step)) as i64)
            }
            Self::Uniform { low, high } => {
                Value::Float(rounded(low + (high - low) * u, *low, *high))
            }
            Self::Log { low, high } => {
                let (bottom, top) = (low.ln(), high.ln());
                Value::Float(rounded((bottom + (top - bottom) * u).exp(), *low, *high))
            }
        }
    }
}

/// The number with six significant digits, from `low` to `high`.
fn rounded(number: f64, low: f64, high: f64) -> f64 {
    let rounded = format!("{number:.5e}").parse().unwrap_or(number);
    rounded.clamp(low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(method: Method, keys: &[(&str, &str)]) -> Search {
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        let keys = keys
            .iter()
            .map(|(key, text)| ((*key).to_owned(), domain(text)));
        Search {
            method,
            samples: 8,
            seed: 3,
            keys: keys.collect(),
            place: Place::Whole,
        }
    }

    #[test]
    fn domains_are_read_as_they_are_written() {
        assert_eq!(
            Domain::parse("int(0, 512, 64)"),
            Some(Domain::Int {
                low: 0,
                high: 512,
                step: 64
            })
        );
        assert_eq!(
            Domain::parse(" int(-1,1) "),
            Some(Domain::Int {
                low: -1,
                high: 1,
                step: 1
            })
        );
        assert_eq!(
            Domain::parse("uniform(0, 0.5)"),
            Some(Domain::Uniform {
                low: 0.0,
                high: 0.5
            })
        );
        assert_eq!(
            Domain::parse("log(1e-5, 1e-3)"),
            Some(Domain::Log {
                low: 1e-5,
                high: 1e-3
            })
        );
        for text in [
            "",
            "int",
            "int()",
            "int(1)",
            "int(1, 0)",
            "int(0, 4, 0)",
            "int(0, 4, -1)",
            "int(0, 4, 1, 1)",
            "int(0.5, 2)",
            "uniform(1, 1)",
            "uniform(0, inf)",
            "uniform(nan, 1)",
            "uniform(-1e308, 1e308)",
            "log(0, 1)",
            "log(-1, 1)",
            "log(1, 2",
            "normal(0, 1)",
        ] {
            assert_eq!(Domain::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_ends_of_a_domain_are_reached() {
        let int = Domain::parse("int(0, 512, 64)").expect("a domain");
        let values: Vec<_> = (0..9).map(|k| int.at((f64::from(k) + 0.5) / 9.0)).collect();
        assert_eq!(
            values,
            (0..9).map(|k| Value::from(64 * k)).collect::<Vec<_>>()
        );
        assert_eq!(
            Domain::parse("int(0, 5, 2)").expect("a domain").at(0.99),
            Value::from(4)
        );
        let widest =
            Domain::parse("int(-9223372036854775808, 9223372036854775807)").expect("a domain");
        assert_eq!(widest.at(0.0), Value::from(i64::MIN));
        let log = Domain::parse("log(1e-5, 1e-3)").expect("a domain");
        assert_eq!(log.at(0.0), Value::from(1e-5));
        assert_eq!(log.at(0.5), Value::from(1e-4));
        assert_eq!(
            Domain::parse("uniform(1, 2)")
                .expect("a domain")
                .at(0.123_456_789),
            Value::from(1.12346)
        );
    }

    #[test]
    fn a_random_point_depends_on_seed_and_number_and_not_on_other_keys() {
        let one = search(Method::Random, &[("lr", "log(1e-5, 1e-3)")]);
        let two = search(
            Method::Random,
            &[("width", "int(0, 512, 64)"), ("lr", "log(1e-5, 1e-3)")],
        );
        for index in 0..8 {
            assert_eq!(one.point(index)[0], two.point(index)[1]);
        }
        assert_ne!(one.point(0), one.point(1));
        let other = Search {
            seed: 4,
            ..one.clone()
        };
        assert_ne!(one.point(0), other.point(0));
    }

    #[test]
    fn shifted_sobol_points_still_have_one_in_each_part() {
        let keys = [("a", "int(0, 7)"), ("b", "int(0, 7)")];
        let search = search(Method::Sobol, &keys);
        for dimension in 0..2 {
            let mut values: Vec<_> = (0..8)
                .filter_map(|index| search.point(index)[dimension].1.as_integer())
                .collect();
            values.sort_unstable();
            assert_eq!(values, (0..8).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn values_stay_in_their_domain(u in 0.0..1.0f64, low in -1e6..1e6f64, size in 1e-3..1e6f64, step in 1u64..9) {
            let uniform = Domain::Uniform { low, high: low + size }.at(u).as_float().expect("a float");
            prop_assert!((low..=low + size).contains(&uniform));
            let log = Domain::Log { low: size, high: 2.0 * size }.at(u).as_float().expect("a float");
            prop_assert!((size..=2.0 * size).contains(&log));
            let (low, high) = (low as i64, (low + size) as i64 + 1);
            let int = Domain::Int { low, high, step }.at(u).as_integer().expect("an integer");
            prop_assert!((low..=high).contains(&int) && (int - low) % step as i64 == 0);
        }
    }
}
