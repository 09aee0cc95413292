//! Embeddings of relative positions that all layers of an encoder share (`DeBERTa`, arXiv 2006.03654).

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer},
    prelude::*,
};

use crate::{
    dropout::dropout,
    norm::{Norm, NormConfig},
};

/// Which relative positions there are: what an encoder says of [`RelativePositions`].
///
/// The defaults are those of `DeBERTa-v3`.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct RelativeConfig {
    /// Number of buckets `K` on either side of a token. Distances up to `K / 2` have one each; farther ones share the others,
    /// each of which is a constant factor wider than the one before. With 0, each distance has one.
    #[config(default = 256)]
    pub buckets: usize,
    /// The number `M` of distances: all from `M - 1` on are the same.
    #[config(default = 512)]
    pub distances: usize,
    /// Whether the embeddings are normalised before layers read them.
    #[config(default = true)]
    pub norm: bool,
}

/// A table of relative positions.
#[derive(Module, Debug)]
pub struct RelativePositions {
    /// The embeddings `[R, D]`.
    pub table: Embedding,
    /// Their normalisation.
    pub norm: Option<Norm>,
    /// Their dropout.
    pub dropout: Dropout,
    #[module(skip)]
    config: RelativeConfig,
}

/// The relative positions of one forward pass.
#[derive(Clone, Debug)]
pub struct Relative {
    /// An embedding for each relative position, `[R, D]`.
    pub embeddings: Tensor<2>,
    /// For each query, the relative positions of the keys: rows of the embeddings, `[1, T, T]`, or `[B, T, T]` where they
    /// differ by sequence.
    pub rows: Tensor<3, Int>,
}

impl RelativeConfig {
    /// Number `S` of relative positions on either side of a token.
    fn span(&self) -> usize {
        if self.buckets > 0 {
            self.buckets
        } else {
            self.distances
        }
    }

    /// The bucket of the distance `query - key`:
    ///
    /// ```text
    /// d                                                                  for |d| <= K / 2
    /// sign(d) (ceil(ln(2 |d| / K) / ln(2 (M - 1) / K) (K / 2 - 1)) + K / 2)    beyond
    /// ```
    ///
    /// with whole halves (the public code of `DeBERTa`, which computes this in float32). With `K = 0`, it is `d`.
    fn bucket(&self, distance: i64) -> i64 {
        let middle = self.buckets / 2;
        let far = distance.unsigned_abs() as usize;
        if self.buckets == 0 || far <= middle {
            return distance;
        }
        let middle = middle as f32;
        let farthest = (self.distances - 1) as f32 / middle;
        let octave = (far as f32 / middle).ln() / farthest.ln() * (middle - 1.0);
        distance.signum() * (octave.ceil() + middle) as i64
    }

    /// The row of the table for the distance `query - key`, from 0 to `2 S - 1`.
    fn row(&self, distance: i64) -> i64 {
        let span = self.span() as i64;
        (self.bucket(distance) + span).clamp(0, 2 * span - 1)
    }

    /// Checks that there are such positions; otherwise says what would be right.
    ///
    /// # Errors
    ///
    /// If there are not.
    pub fn check(&self) -> Result<(), String> {
        match *self {
            Self { distances: 0, .. } => Err("at least one distance".to_owned()),
            Self { buckets: 1, .. } => Err("no bucket or at least 2".to_owned()),
            Self {
                buckets, distances, ..
            } if buckets > 0 && distances <= buckets / 2 + 1 => Err(format!(
                "more distances than the {} that have a bucket of their own",
                buckets / 2 + 1
            )),
            _ => Ok(()),
        }
    }

    /// Makes the table of a model with hidden states of `hidden` numbers.
    ///
    /// # Panics
    ///
    /// If the configuration is none that [`Self::check`] accepts.
    pub fn init(
        &self,
        hidden: usize,
        norm_epsilon: f64,
        dropout: f64,
        initializer: Initializer,
        device: &Device,
    ) -> RelativePositions {
        if let Err(needed) = self.check() {
            panic!("relative positions need {needed}");
        }
        RelativePositions {
            table: EmbeddingConfig::new(2 * self.span(), hidden)
                .with_initializer(initializer)
                .init(device),
            norm: self.norm.then(|| {
                NormConfig::new(hidden)
                    .with_epsilon(norm_epsilon)
                    .init(device)
            }),
            dropout: DropoutConfig::new(dropout).init(),
            config: self.clone(),
        }
    }
}

impl RelativePositions {
    /// The relative positions of a sequence of `length` tokens.
    pub fn forward(&self, length: usize) -> Relative {
        let table = self.table.weight.val();
        let device = table.device();
        let table = match &self.norm {
            Some(norm) => norm.forward(table.unsqueeze::<3>()).squeeze_dim::<2>(0),
            None => table,
        };
        let length = length as i64;
        let rows: Vec<i64> = (1 - length..length)
            .map(|distance| self.config.row(distance))
            .collect();
        let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &device);
        let places = Tensor::<1, Int>::arange(0..length, &device);
        let distances = places.clone().unsqueeze_dim::<2>(1) - places.unsqueeze_dim::<2>(0);
        let shape = distances.dims();
        let rows = rows.select(0, (distances + (length - 1)).flatten::<1>(0, 1));
        Relative {
            embeddings: dropout(&self.dropout, table),
            rows: rows.reshape(shape).unsqueeze(),
        }
    }
}

impl Relative {
    /// The relative positions of the tokens at `places` `[B, K]` of each sequence.
    pub(crate) fn select(self, places: &Tensor<2, Int>) -> Self {
        let [batch, count] = places.dims();
        let [_, length, _] = self.rows.dims();
        let rows = self.rows.expand([batch, length, length]);
        let queries = places.clone().unsqueeze_dim::<3>(2);
        let rows = rows.gather(1, queries.expand([batch, count, length]));
        let keys = places.clone().unsqueeze_dim::<3>(1);
        Self {
            rows: rows.gather(2, keys.expand([batch, count, count])),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn near_distances_have_a_bucket_each_and_far_ones_share() {
        let config = RelativeConfig::new();
        for (distance, bucket) in [(0, 0), (128, 128), (-128, -128), (129, 129), (511, 255)] {
            assert_eq!(config.bucket(distance), bucket);
        }
        let plain = config.clone().with_buckets(0).with_distances(4);
        let rows = [-9, -4, -1, 0, 3, 4, 9].map(|distance| plain.row(distance));
        assert_eq!(rows, [0, 0, 3, 4, 7, 7, 7]);
    }

    /// The buckets of `DeBERTa`'s public code.
    #[test]
    fn buckets_are_those_of_the_public_code() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
        let path = Path::new(fixtures).join("deberta/log_buckets.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let integers = |name: String| -> Vec<i64> {
            let tensor = file.tensor(&name).unwrap();
            let numbers = tensor.data().chunks_exact(4);
            let number = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().unwrap());
            numbers.map(|bytes| number(bytes).into()).collect()
        };
        for (buckets, distances) in [(256, 512), (8, 32), (6, 32)] {
            let config = RelativeConfig::new()
                .with_buckets(buckets)
                .with_distances(distances);
            let relative = integers(format!("relative_{buckets}_{distances}"));
            let bucket = integers(format!("bucket_{buckets}_{distances}"));
            for (distance, bucket) in relative.into_iter().zip(bucket) {
                assert_eq!(config.bucket(distance), bucket, "{config:?} {distance}");
                assert_eq!(config.bucket(-distance), -bucket, "{config:?} {distance}");
            }
        }
    }

    #[test]
    fn rows_depend_on_the_distance_alone() {
        let device = Device::default();
        let config = RelativeConfig::new().with_buckets(4).with_distances(8);
        let positions = config.init(6, 1e-7, 0.0, Initializer::Ones, &device);
        let relative = positions.forward(3);
        assert_eq!(relative.embeddings.dims(), [8, 6]);
        let rows = TensorData::from([[[4_i64, 3, 2], [5, 4, 3], [6, 5, 4]]]);
        let found = relative.rows.to_data().convert::<i64>();
        found.assert_eq(&rows, true);
        // Tokens keep their distances when others between them are left out.
        let places = Tensor::<2, Int>::from_data([[0, 2], [1, 2]], &device);
        let rows = TensorData::from([[[4_i64, 2], [6, 4]], [[4, 3], [5, 4]]]);
        let found = relative.select(&places).rows.into_data().convert::<i64>();
        found.assert_eq(&rows, true);
    }

    #[test]
    fn positions_that_cannot_be_are_refused() {
        let config = RelativeConfig::new();
        assert!(config.check().is_ok());
        assert!(config.clone().with_buckets(0).check().is_ok());
        for wrong in [
            config.clone().with_distances(0),
            config.clone().with_buckets(1),
            config.with_distances(129),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
