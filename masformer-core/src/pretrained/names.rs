//! Names of weights: Hugging Face's for files, ours for modules.

use burn::store::KeyRemapper;

/// Renames between the files of one architecture and its module.
///
/// Layer normalisations are `gamma` and `beta` to Burn, in a field whose name ends in `norm`.
#[derive(Clone, Debug)]
pub struct Names {
    import: KeyRemapper,
    export: KeyRemapper,
}

impl Names {
    /// Names from pairs of a file's and a module's, both up to the parameter itself, such as
    /// `("bert.encoder.layer.{l}.output.dense.", "bert.layers.{l}.feed_forward.outer.")`: `{l}` and
    /// `{e}` are numbers. Files may leave out `prefix` where a pair has it.
    ///
    /// Several modules with one name in the file share its tensor, side by side in their order.
    ///
    /// Hugging Face has no names for experts. Theirs are those of the dense feed-forward half with
    /// `experts.{e}.` after the layer, and their router's those of the module after it.
    ///
    /// # Panics
    ///
    /// If a name, taken literally but for its numbers, is no regular expression.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, prefix: &str) -> Self {
        let mut names = vec![];
        let mut router = None;
        for (file, module) in pairs {
            names.push((file.to_owned(), module.to_owned()));
            if let Some((layer, _)) = module.split_once(HALF) {
                let (above, below) = file.split_once(LAYER).unwrap_or((file, ""));
                let in_layer = |name: &str| format!("{above}{LAYER}{name}");
                let expert = module.replace(HALF, &format!("{HALF}experts.{{e}}."));
                names.push((in_layer(&format!("experts.{{e}}.{below}")), expert));
                router = Some((in_layer("router."), format!("{layer}{HALF}router.")));
            }
        }
        names.extend(router);
        let import = names
            .iter()
            .map(|(file, module)| match file.strip_prefix(prefix) {
                Some(rest) => {
                    let pattern = format!("^(?:{})?{}", escape(prefix), escape(rest));
                    (pattern, replacement(module))
                }
                None => (format!("^{}", escape(file)), replacement(module)),
            });
        let export = names
            .iter()
            .map(|(file, module)| (format!("^{}", escape(module)), replacement(file)));
        Self {
            import: remapper(import),
            export: remapper(export),
        }
    }

    /// The module's names for a tensor in a file: one, or several that share it.
    pub fn in_model(&self, file: &str) -> Vec<String> {
        let patterns = self.import.patterns.iter();
        let mut names: Vec<_> = patterns
            .filter(|(from, _)| from.is_match(file))
            .map(|(from, to)| from.replace(file, to.as_str()).into_owned())
            .collect();
        if names.is_empty() {
            names.push(file.to_owned());
        }
        for name in &mut names {
            for (from, to) in NORM {
                if let Some(norm) = name.strip_suffix(from)
                    && norm.to_ascii_lowercase().ends_with("norm")
                {
                    *name = format!("{norm}{to}");
                }
            }
        }
        names
    }

    /// The name in a file of a weight of the module.
    pub fn in_file(&self, module: &str) -> String {
        let mut patterns = self.export.patterns.iter();
        let mut name = match patterns.find(|(from, _)| from.is_match(module)) {
            Some((from, to)) => from.replace(module, to.as_str()).into_owned(),
            None => module.to_owned(),
        };
        for (from, to) in NORM {
            if let Some(norm) = name.strip_suffix(to) {
                name = format!("{norm}{from}");
            }
        }
        name
    }
}

/// Whether a weight of a module is one of the mixer of one of these layers.
pub fn is_of_mixers(module: &str, layers: &[usize]) -> bool {
    let is_of = |layer: &usize| module.contains(&format!("stack.layers.{layer}.mixer."));
    layers.iter().any(is_of)
}

/// The parameters of a layer normalisation, to Transformers and to Burn (and the first BERT
/// checkpoints).
const NORM: [(&str, &str); 2] = [(".weight", ".gamma"), (".bias", ".beta")];

/// The place of a layer's number in names.
const LAYER: &str = "{l}.";
/// What the names of a feed-forward half have in the module.
const HALF: &str = ".feed_forward.";

fn escape(name: &str) -> String {
    name.replace('.', r"\.")
        .replace("{l}", r"(\d+)")
        .replace("{e}", r"(\d+)")
}

fn replacement(name: &str) -> String {
    name.replace("{l}", "${1}").replace("{e}", "${2}")
}

fn remapper(patterns: impl Iterator<Item = (String, String)>) -> KeyRemapper {
    KeyRemapper::from_pattern_iter(patterns).expect("names make valid patterns")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let pairs = [
            ("net.h.{l}.ln_1.", "layers.{l}.attention_norm."),
            ("net.h.{l}.qk.", "layers.{l}.query."),
            ("net.h.{l}.qk.", "layers.{l}.key."),
            ("net.h.{l}.mlp.", "layers.{l}.feed_forward.inner."),
            ("head.", "top."),
        ];
        Names::new(pairs, "net.")
    }

    #[test]
    fn names_come_back() {
        let names = names();
        for (file, module) in [
            ("net.h.12.ln_1.weight", "layers.12.attention_norm.gamma"),
            ("net.h.12.ln_1.bias", "layers.12.attention_norm.beta"),
            ("net.h.3.mlp.bias", "layers.3.feed_forward.inner.bias"),
            (
                "net.h.3.experts.7.mlp.bias",
                "layers.3.feed_forward.experts.7.inner.bias",
            ),
            (
                "net.h.3.router.gate.weight",
                "layers.3.feed_forward.router.gate.weight",
            ),
            ("head.weight", "top.weight"),
            ("other.weight", "other.weight"),
        ] {
            assert_eq!(names.in_model(file), [module]);
            assert_eq!(names.in_file(module), file);
        }
    }

    #[test]
    fn the_prefix_may_lack() {
        let expert = "layers.0.feed_forward.experts.1.inner.x";
        assert_eq!(names().in_model("h.0.experts.1.mlp.x"), [expert]);
        assert_eq!(names().in_model("0.experts.1.x"), ["0.experts.1.x"]);
    }

    #[test]
    fn modules_may_share_a_tensor() {
        let shared = ["layers.1.query.weight", "layers.1.key.weight"];
        assert_eq!(names().in_model("net.h.1.qk.weight"), shared);
        for module in shared {
            assert_eq!(names().in_file(module), "net.h.1.qk.weight");
        }
    }
}
